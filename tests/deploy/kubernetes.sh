#!/bin/sh
# kubernetes.sh PYTHON ...: runs PYTHON, or exits with 77 where it has no kubernetes-validate (deploy/requirements.txt).
"$1" -c 'import kubernetes_validate' 2> /dev/null || exit 77
exec "$@"
