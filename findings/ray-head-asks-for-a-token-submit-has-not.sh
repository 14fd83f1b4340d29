#!/bin/bash
# ray 2.60.0: with RAY_AUTH_MODE unset, `ray start --head` turns token authentication on where ~/.ray/auth_token is there.
# `ray job submit` of the same version, by the same user, with the same file and the variable unset as well, sends no token:
# it is refused, and told that no token was found and that ~/.ray/auth_token is a place for one. With RAY_AUTH_MODE=token on
# the client's side that very file is read and the job taken.
#
# Seen: "mode unset: Unauthorized: Missing authentication token", "RAY_AUTH_MODE=token: taken". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
head=
trap '[[ -z $head ]] || { kill "$head"; wait "$head" || true; } 2>/dev/null; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'ray[default]==2.60.0'
export HOME=$work PATH=$work/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0 RAY_raylet_start_wait_time_s=300
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
ray get-auth-token --generate >/dev/null 2>&1
# In the foreground of a job of ours, since `ray stop` ends every cluster of the machine.
ray start --head --block --num-cpus=1 --temp-dir="$work/r" --port=26379 --dashboard-port=28265 --ray-client-server-port=20001 \
    --dashboard-agent-listen-port=22365 --object-store-memory=80000000 >"$work/head" 2>&1 &
head=$!
for _ in {1..600}; do
    grep -q "Ray runtime started" "$work/head" && (: </dev/tcp/127.0.0.1/28265) 2>/dev/null && break
    sleep 0.5
done
submit() {
    ray job submit --no-wait --address=http://127.0.0.1:28265 -- true 2>&1 || true
}
refused=$(submit | grep -o "Unauthorized: Missing authentication token" | head -1 || true)
taken=$(RAY_AUTH_MODE=token submit | grep -o "submitted successfully" | head -1 || true)
echo "mode unset: ${refused:-no such refusal}"
echo "RAY_AUTH_MODE=token: ${taken:+taken}"
[[ -n $refused && -n $taken ]]
