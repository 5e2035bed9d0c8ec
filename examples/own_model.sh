#!/usr/bin/env bash
# A model of your own for one tenant: MODEL_URL=http://127.0.0.1:8080/v1 MODEL=name TENANT=pharmacy examples/own_model.sh
# The URL is an OpenAI-compatible chat server's: of a GGUF, llama-server -m FILE.
set -euo pipefail
: "${MODEL_URL:?base URL of a chat server}" "${MODEL:?name of its model}" "${TENANT:?name of a tenant file}"

assistant models use --url "$MODEL_URL" --model "$MODEL" --tenant "$TENANT"
assistant models list
assistant ask --tenant "$TENANT" "${QUESTION:-For how many hours do patients park free of charge?}"
assistant models use --tenant "$TENANT" --packaged
