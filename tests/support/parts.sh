# Sourced by tests/run: parts that run now or beside others, and what they came to.
# shellcheck shell=bash

logs=$(mktemp -d)
declare -A running=()
failed=() counts=() late=() total=0

# Run a command that prints pytest's closing line; its output is kept.
part() { # LABEL COMMAND...
    say "$1"
    "${@:2}" 2>&1 | tee "$logs/$1"
}

beside() { # LABEL COMMAND...
    # A process group of its own, so that it can be ended as a whole.
    set -m
    part "$@" >/dev/null &
    set +m
    running[$1]=$!
}

count() { # LABEL: keep pytest's closing line, which says how long it took
    local line
    line=$(grep -aoE '[0-9]+ passed.*' "$logs/$1" | tail -n 1)
    counts+=("$1: $line")
    total=$((total + ${line%% *}))
}

now() { # LABEL COMMAND...
    if part "$@"; then count "$1"; else failed+=("$1"); fi
}

in_time() { # LABEL: whether a part may still begin
    [ -n "${HPCQ_TEST_MINUTES:-}" ] && [ "$SECONDS" -ge $((60 * HPCQ_TEST_MINUTES)) ] || return 0
    late+=("$1")
    return 1
}

wait_for() { # LABEL: of what runs beside
    local pid=${running[$1]}
    unset "running[$1]"
    wait "$pid"
}

finish() { # LABEL: wait for what runs beside, and show what it said
    if wait_for "$1"; then count "$1"; else failed+=("$1"); fi
    say "$1"
    cat "$logs/$1"
}

summary() {
    say "tests that ran"
    printf '%s\n' "${counts[@]}"
    if [ ${#late[@]} -gt 0 ]; then
        printf 'NOT RUN, since %s minutes were over: %s\n' "$HPCQ_TEST_MINUTES" "${late[*]}"
    fi
    if [ ${#failed[@]} -gt 0 ]; then
        printf 'FAILED: %s\n' "${failed[@]}"
        exit 1
    fi
    echo "$total passed, 0 failed"
}

end() {
    local pid
    for pid in "${running[@]}"; do
        # As Ctrl-C does: Slurm's daemons are ended, too.
        kill -INT -- "-$pid" 2>/dev/null && wait "$pid" || true
    done
    rm -rf "$logs"
}
trap end EXIT
