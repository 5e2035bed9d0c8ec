#!/usr/bin/env bash
# A GGUF of your own for one tenant: MODEL=/path/to/model.gguf TENANT=pharmacy examples/own_model.sh
# Add --writes-answers only for a model whose answers you have read: without it, answers are quoted.
set -euo pipefail
: "${MODEL:?path of a GGUF file}" "${TENANT:?name of a tenant file}"

assistant models add "$MODEL" --tenant "$TENANT" --name my-llm
assistant models list
assistant ask --tenant "$TENANT" "${QUESTION:-For how many hours do patients park free of charge?}"
assistant models use --tenant "$TENANT" --packaged
