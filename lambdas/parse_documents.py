"""Parses one file, by addresses that its caller signed. The role of this function has no permission."""

from __future__ import annotations

from assistant.service.parser import Parser

handle = Parser()
