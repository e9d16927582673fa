# bash completion for singlerun(1)
#
# It works with and without the package bash-completion. With it, the command is completed as if it
# were not preceded by singlerun; without it, its arguments are completed as file names.

# Set "words" to the words of the line up to the cursor as singlerun will see them, since bash also
# splits at "=" and ":"; "raw" to the index in COMP_WORDS at which each begins; and "typed" to the text
# that bash will replace.
_singlerun_split() {
    local rest=${COMP_LINE-} word gap i
    rest=${rest:0:${COMP_POINT:-${#rest}}}
    words=() raw=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        gap=yes
        if [[ -n ${COMP_LINE-} ]]; then
            [[ -z $rest || $rest == [[:space:]]* ]] || gap=
            rest=${rest#"${rest%%[![:space:]]*}"}
            ((i < COMP_CWORD)) || word=$rest
            rest=${rest#"$word"}
        fi
        if ((i > 1)) && [[ -z $gap ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
            raw+=("$i")
        fi
    done
    typed=$word
    [[ $typed != [=:]* ]] || typed=
}

# Offer those of compgen's words that begin with $1, which is the text typed so far or its end.
_singlerun_offer() {
    local begun=$1 line before= behind=
    shift
    case $begun in
        *"$typed") before=${begun%"$typed"} ;;
    esac
    case $typed in
        *"$begun") behind=${typed%"$begun"} ;;
    esac
    while IFS= read -r line; do
        COMPREPLY+=("$behind${line#"$before"}")
    done < <(compgen "$@" -- "$begun")
}

_singlerun_files() {
    compopt -o filenames 2>/dev/null
    _singlerun_offer "$1" -f
}

# Complete the value, begun with $2, of the option $1.
_singlerun_value() {
    case $1 in
        --lock-file)
            _singlerun_files "$2"
            ;;
        --dir)
            compopt -o filenames 2>/dev/null
            _singlerun_offer "$2" -d
            ;;
        --restart)
            _singlerun_offer "$2" -W "on-failure on-success always"
            ;;
        --state)
            if [[ $subcommand == queue ]]; then
                _singlerun_offer "$2" -W "queued delayed paused running succeeded failed cancelled lost"
                return
            fi
            _singlerun_offer "$2" -W "waiting running succeeded failed timed-out stopped refused skipped lost"
            ;;
        --since | --until)
            _singlerun_offer "$2" -W "today yesterday"
            ;;
        --lock-type)
            _singlerun_offer "$2" -W "auto flock lockfile"
            ;;
        --on-*)
            _singlerun_offer "$2" -c
            ;;
        --env)
            _singlerun_offer "$2" -e
            ;;
    esac
}

# Complete the command, whose name is word number $1, or its arguments.
_singlerun_command() {
    local begun=${words[${#words[@]} - 1]}
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "${raw[$1]}"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "${raw[$1]}"
    elif (($1 < ${#words[@]} - 1)) || [[ $begun == */* ]]; then
        _singlerun_files "$begun"
    else
        _singlerun_offer "$begun" -c
    fi
}

_singlerun() {
    local run_options="-n --name --lock-file --lock-fd --lock-type -s --shared -w --wait --wait-for
        --skip -j --slots -E --conflict-exit-code --replace --queue --coalesce --min-interval
        --max-starts -t --timeout -k --kill-after --signal --retries --retry-delay --restart --jitter --exec
        --linger --on-success --on-failure --on-conflict --on-finish --log --only-failed --require-record --dir
        -q --quiet -v --verbose -h --help"
    local add_options="-n --name --priority --delay --after --unique --label --retries --retry-delay
        --limit -t --timeout -k --kill-after --signal --env --all-env --stdin -0 --null --json -q --quiet
        --dir -h --help"
    local cancel_options="--dir -h --help"
    local history_options="--name --since --until --state --failed --refused --limit --format --json
        --json-lines --dir -h --help"
    local is_running_options="--lock-file -q --quiet --json --dir -h --help"
    local logs_options="-f --follow --dir -h --help"
    local move_options="--first --dir -h --help"
    local pause_options="--for --dir -h --help"
    local ps_options="-a --all --tree --watch --format --json --dir -h --help"
    local queue_options="-a --all --state --label --limit --watch --format --json --dir -h --help"
    local reap_options="--dry-run --kill-orphans --break-lock --lock-file -q --quiet --json --dir
        -h --help"
    local resume_options="--dir -h --help"
    local retry_options="--dir -h --help"
    local stop_options="-k --kill-after --signal -q --quiet --dir -h --help"
    local wait_options="-t --timeout --dir -h --help"
    local worker_options="-n --name --stay --now --dir -h --help"
    local subcommands="add cancel history is-running logs move pause ps queue reap resume retry run
        stop wait worker"

    COMPREPLY=()
    local typed
    local -a words raw
    _singlerun_split
    local last=$((${#words[@]} - 1))
    local current=${words[last]}

    # Go through the words before the cursor. "subcommand" is empty while one is still allowed, and
    # "run" in the prefix form after that. "valued" is an option whose value comes next.
    local subcommand= options=$run_options valued= word i
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        valued=
        case $word in
            --)
                [[ ! $subcommand =~ ^(|run|add)$ ]] || _singlerun_command $((i + 1))
                return
                ;;
            --dir | --limit | --break-lock | --priority | --delay | --after | --label | --env | --for | --signal | \
                --since | --until | --state | --format)
                [[ $word != --signal ]] || : "${subcommand:=run}"
                valued=$word
                ;;
            --dir=*) ;;
            --name | --lock-file | --lock-fd | --lock-type | --slots | --wait-for | --conflict-exit-code | \
                --min-interval | --max-starts | --timeout | --kill-after | --retries | --retry-delay | --restart | \
                --jitter | --on-success | --on-failure | --on-conflict | --on-finish)
                : "${subcommand:=run}"
                valued=$word
                ;;
            --*)
                : "${subcommand:=run}"
                ;;
            -?*)
                : "${subcommand:=run}"
                # Flags may be combined, ending with one that takes a value: -qwn NAME, or -qwnNAME.
                if [[ $subcommand =~ ^(run|add|stop|wait|worker)$ && $word =~ ^-[^nEjtk]*[nEjtk]$ ]]; then
                    valued=$word
                fi
                ;;
            *)
                case $subcommand:$word in
                    :add) subcommand=$word options=$add_options ;;
                    :cancel) subcommand=$word options=$cancel_options ;;
                    :history) subcommand=$word options=$history_options ;;
                    :is-running) subcommand=$word options=$is_running_options ;;
                    :logs) subcommand=$word options=$logs_options ;;
                    :move) subcommand=$word options=$move_options ;;
                    :pause) subcommand=$word options=$pause_options ;;
                    :ps) subcommand=$word options=$ps_options ;;
                    :queue) subcommand=$word options=$queue_options ;;
                    :reap) subcommand=$word options=$reap_options ;;
                    :resume) subcommand=$word options=$resume_options ;;
                    :retry) subcommand=$word options=$retry_options ;;
                    :run) subcommand=$word ;;
                    :stop) subcommand=$word options=$stop_options ;;
                    :wait) subcommand=$word options=$wait_options ;;
                    :worker) subcommand=$word options=$worker_options ;;
                    :* | run:* | add:*)
                        _singlerun_command "$i"
                        return
                        ;;
                esac
                ;;
        esac
        [[ -z $valued ]] || ((++i))
    done

    if ((i > last)); then
        _singlerun_value "$valued" "$current"
    elif [[ $current == --*=* ]]; then
        _singlerun_value "${current%%=*}" "${current#*=}"
    elif [[ $current == -* ]]; then
        ((last > 1)) || options+=" --version"
        _singlerun_offer "$current" -W "$options"
    elif [[ $subcommand =~ ^(|run|add)$ ]]; then
        _singlerun_command "$last"
        [[ -n $subcommand ]] || _singlerun_offer "$current" -W "$subcommands"
    fi
}

complete -F _singlerun singlerun
