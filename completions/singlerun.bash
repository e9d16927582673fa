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

# Offer what the run-log knows of these kinds, $1, that begins with $2; see singlerun/completion.py.
_singlerun_record() {
    local begun=$2 before=${2%"$typed"} word quote=
    case $begun in
        [\"\']*) quote=${begun:0:1} begun=${begun:1} before= ;;
        *) begun=${begun//\\/} before=${before//\\/} ;;
    esac
    while IFS=$'\t' read -r word _; do
        word=${word#"$before"}
        if [[ -z $quote ]]; then
            printf -v word %q "$word"
        elif [[ $word == *[\"\'\\\`\$]* ]]; then
            continue
        fi
        COMPREPLY+=("$word")
    done < <(
        case $directory in
            [\"\']*) directory=${directory:1} directory=${directory%[\"\']} ;;
            *) directory=${directory/#'~/'/"$HOME/"} directory=${directory//\\/} ;;
        esac
        [[ -z $directory ]] || export SINGLERUN_DIR=$directory
        command singlerun --complete "$1" "$begun" 2>/dev/null
    )
}

_singlerun_files() {
    compopt -o filenames 2>/dev/null
    _singlerun_offer "$1" -f
}

# Complete the value, begun with $2, of the option $1.
_singlerun_value() {
    case $1 in
        --lock-file | --html | --svg | --textfile)
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
        --notify)
            _singlerun_offer "$2" -S : -W "start success failure recovery change refused overlong overdue lost
                queue-empty"
            ;;
        --on-*)
            _singlerun_offer "$2" -c
            ;;
        --env)
            _singlerun_offer "$2" -e
            ;;
        --signal)
            _singlerun_offer "$2" -W "TERM INT HUP QUIT KILL USR1 USR2"
            ;;
        --name | -*n)
            if [[ $subcommand == worker ]]; then
                _singlerun_record queues "$2"
            else
                _singlerun_record names "$2"
            fi
            ;;
        --after)
            _singlerun_record jobs "$2"
            ;;
        --label)
            _singlerun_record labels "$2"
            ;;
    esac
}

# Complete the argument, begun with $2, of the subcommand $1; there are $3 before it.
_singlerun_argument() {
    case $1:$3 in
        cancel:* | move:0)
            _singlerun_record pending "$2"
            ;;
        completion:0)
            _singlerun_offer "$2" -W "bash fish zsh"
            ;;
        config:0)
            _singlerun_offer "$2" -W "path show get set unset check edit init"
            ;;
        config:*)
            case $action in
                show) _singlerun_record names "$2" ;;
                get | set | unset) (($3 > 1)) || _singlerun_record keys "$2" ;;
                check) _singlerun_files "$2" ;;
            esac
            ;;
        help:0)
            _singlerun_offer "$2" -W "$subcommands singlerun"
            ;;
        check:* | history:0 | is-running:0 | pause:0 | ps:* | reap:* | stats:0 | timeline:0 | why:0)
            _singlerun_record names "$2"
            ;;
        logs:0)
            _singlerun_record names,runs "$2"
            ;;
        notify:0)
            _singlerun_offer "$2" -W "test list flush"
            ;;
        notify:1)
            _singlerun_record names "$2"
            ;;
        queue:0)
            _singlerun_record queues "$2"
            ;;
        resume:0)
            _singlerun_record paused "$2"
            ;;
        retry:*)
            _singlerun_record unsuccessful "$2"
            ;;
        stop:0)
            _singlerun_record running "$2"
            ;;
        wait:0)
            _singlerun_record running,jobs "$2"
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
        --linger --on-start --on-success --on-failure --on-conflict --on-finish --notify --log
        --only-failed --require-record --dir --no-config -q --quiet -v --verbose -h --help"
    local add_options="-n --name --priority --delay --after --unique --label --retries --retry-delay
        --limit -t --timeout -k --kill-after --signal --on-start --on-success --on-failure --on-finish
        --notify --env --all-env --stdin -0 --null --json -q --quiet --no-config --dir -h --help"
    local cancel_options="--dir -h --help"
    local check_options="-c --critical --expect -w --warning --overlong --max-queued --max-refused --notify
        -q --quiet --json --dir -h --help"
    local completion_options="--dir -h --help"
    local config_options="--system --json --dir -h --help"
    local doctor_options="-q --quiet --json --dir -h --help"
    local help_options="--dir -h --help"
    local history_options="--name --since --until --state --failed --refused --limit --format --json
        --json-lines --dir -h --help"
    local is_running_options="--lock-file -q --quiet --json --dir -h --help"
    local logs_options="-f --follow --tail --since -t --timestamps --all-failed --list --limit --json --dir
        -h --help"
    local metrics_options="--openmetrics --textfile --limit -q --quiet --dir -h --help"
    local move_options="--first --dir -h --help"
    local notify_options="--json --dir -h --help"
    local pause_options="--for --dir -h --help"
    local prune_options="--older-than --keep --dry-run -q --quiet --no-config --json --dir -h --help"
    local ps_options="-a --all --tree --watch --format --json --dir -h --help"
    local queue_options="-a --all --state --label --limit --watch --format --json --dir -h --help"
    local reap_options="--dry-run --kill-orphans --break-lock --lock-file -q --quiet --json --dir
        -h --help"
    local resume_options="--dir -h --help"
    local retry_options="--dir -h --help"
    local stats_options="--since --until --json --dir -h --help"
    local stop_options="-k --kill-after --signal -q --quiet --dir -h --help"
    local timeline_options="--since --until --limit --html --svg --json --dir -h --help"
    local wait_options="-t --timeout --dir -h --help"
    local why_options="--json --dir -h --help"
    local worker_options="-n --name --stay --now --dir -h --help"
    local subcommands="add cancel check completion config doctor help history is-running logs
        metrics move notify pause prune ps queue reap resume retry run stats stop timeline wait why
        worker"

    COMPREPLY=()
    local typed
    local -a words raw
    _singlerun_split
    local last=$((${#words[@]} - 1))
    local current=${words[last]}

    # Go through the words before the cursor. "subcommand" is empty while one is still allowed, and
    # "run" in the prefix form after that. "valued" is an option whose value comes next, "arguments"
    # how many the subcommand has so far.
    local subcommand= options=$run_options valued= directory= action= word i
    local -i arguments=0
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        valued=
        case $word in
            --)
                [[ ! $subcommand =~ ^(|run|add)$ ]] || _singlerun_command $((i + 1))
                return
                ;;
            --dir | --limit | --break-lock | --priority | --delay | --after | --label | --env | --for | --signal | \
                --tail | --since | --until | --state | --format | --html | --svg | --textfile | --critical | \
                --expect | --warning | --overlong | --max-queued | --max-refused)
                [[ $word != --signal ]] || : "${subcommand:=run}"
                [[ $word != --dir ]] || directory=${words[i + 1]}
                valued=$word
                ;;
            --dir=*) directory=${word#*=} ;;
            --name | --lock-file | --lock-fd | --lock-type | --slots | --wait-for | --conflict-exit-code | \
                --min-interval | --max-starts | --timeout | --kill-after | --retries | --retry-delay | --restart | \
                --jitter | --on-start | --on-success | --on-failure | --on-conflict | --on-finish | \
                --notify)
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
                elif [[ $subcommand == check && $word =~ ^-[^cw]*[cw]$ ]]; then
                    valued=$word
                fi
                ;;
            *)
                case $subcommand:$word in
                    :add) subcommand=$word options=$add_options ;;
                    :cancel) subcommand=$word options=$cancel_options ;;
                    :check) subcommand=$word options=$check_options ;;
                    :completion) subcommand=$word options=$completion_options ;;
                    :config) subcommand=$word options=$config_options ;;
                    :doctor) subcommand=$word options=$doctor_options ;;
                    :help) subcommand=$word options=$help_options ;;
                    :history) subcommand=$word options=$history_options ;;
                    :is-running) subcommand=$word options=$is_running_options ;;
                    :logs) subcommand=$word options=$logs_options ;;
                    :metrics) subcommand=$word options=$metrics_options ;;
                    :move) subcommand=$word options=$move_options ;;
                    :notify) subcommand=$word options=$notify_options ;;
                    :pause) subcommand=$word options=$pause_options ;;
                    :prune) subcommand=$word options=$prune_options ;;
                    :ps) subcommand=$word options=$ps_options ;;
                    :queue) subcommand=$word options=$queue_options ;;
                    :reap) subcommand=$word options=$reap_options ;;
                    :resume) subcommand=$word options=$resume_options ;;
                    :retry) subcommand=$word options=$retry_options ;;
                    :run) subcommand=$word ;;
                    :stats) subcommand=$word options=$stats_options ;;
                    :stop) subcommand=$word options=$stop_options ;;
                    :timeline) subcommand=$word options=$timeline_options ;;
                    :wait) subcommand=$word options=$wait_options ;;
                    :why) subcommand=$word options=$why_options ;;
                    :worker) subcommand=$word options=$worker_options ;;
                    :* | run:* | add:*)
                        _singlerun_command "$i"
                        return
                        ;;
                    *)
                        ((arguments)) || action=$word
                        arguments+=1
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
        [[ -z $subcommand$current ]] || _singlerun_command "$last"
        [[ -n $subcommand ]] || _singlerun_offer "$current" -W "$subcommands"
    else
        _singlerun_argument "$subcommand" "$current" "$arguments"
    fi
}

complete -F _singlerun singlerun
