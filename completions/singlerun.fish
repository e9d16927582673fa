# fish completion for singlerun(1)

set -g __fish_singlerun_subcommands add cancel check completion config doctor help history \
    is-running logs metrics move notify pause prune ps queue reap resume retry run stats stop \
    timeline wait why worker

# Print where the cursor is: "first" where a subcommand is allowed, "run" where only the options and the
# command of the prefix form are, the name of a subcommand after that name, and "command" from the
# command on. Further lines are the words of the command, or the arguments of the subcommand, before
# the cursor.
function __fish_singlerun_place
    set -l words (commandline -opc)
    while string match -qr '^\w+=' -- $words[1] # VARIABLE=value singlerun
        set -e words[1]
    end
    set -e words[1]
    set -l arguments
    set -l place first
    while set -q words[1]
        set -l word $words[1]
        if contains -- $place first run add
            switch $word
                case --
                    set -e words[1]
                    set place command
                    break
                case '-?*'
                case '*'
                    if not contains -- $place:$word first:$__fish_singlerun_subcommands
                        set place command
                        break
                    end
            end
        end
        set -e words[1]
        switch $word
            case --
                set place nothing
                break
            case --limit --tail --since --until --state --format --dir --break-lock --priority --delay --after --label --env \
                    --for --html --svg --textfile --critical --expect --warning --overlong --max-queued --max-refused
                set -e words[1]
            case '--dir=*'
            case --name --lock-file --lock-fd --lock-type --slots --wait-for --conflict-exit-code \
                    --min-interval --max-starts --timeout --kill-after --signal --retries --retry-delay \
                    --restart --jitter \
                    --on-{start,success,failure,conflict,finish} --notify
                test $place = first; and set place run
                set -e words[1]
            case '--*'
                test $place = first; and set place run
            case '-?*'
                test $place = first; and set place run
                # Flags may be combined, ending with one that takes a value: -qwn NAME, or -qwnNAME.
                contains -- $place run add stop wait worker
                and string match -qr '^-[^nEjtk]*[nEjtk]$' -- $word
                and set -e words[1]
                test $place = check; and string match -qr '^-[^cw]*[cw]$' -- $word; and set -e words[1]
            case '*'
                if test $place = first
                    set place $word
                else
                    set -a arguments $word
                end
        end
    end
    test $place = command; or set words $arguments
    printf '%s\n' $place $words
end

function __fish_singlerun_at
    set -l place (__fish_singlerun_place)
    contains -- $place[1] $argv
end

# Succeed where the first argument of one of these subcommands stands.
function __fish_singlerun_first_of
    set -l place (__fish_singlerun_place)
    contains -- $place[1] $argv; and not set -q place[2]
end

# Succeed where the first argument of one of these actions of config stands.
function __fish_singlerun_config
    set -l place (__fish_singlerun_place)
    test $place[1] = config; and contains -- "$place[2]" $argv; and not set -q place[3]
end

# Offer what the run-log knows of these kinds; see singlerun/completion.py.
function __fish_singlerun_record
    set -l words (commandline -opc)
    set -l directory (string match -rg '^--dir=(.*)' -- $words)[-1]
    set -l at (contains -i -- --dir $words); and set directory $words[(math $at + 1)]
    test -z "$directory"; or set -lx SINGLERUN_DIR (string replace -r '^~/' "$HOME/" -- $directory)
    set -l begun (commandline -ct | string replace -r '^(--[^=]*=|-.*)' '' | string unescape)
    command singlerun --complete $argv "$begun" 2>/dev/null
end

# Complete the command as if it were not preceded by singlerun.
function __fish_singlerun_command
    set -l words (__fish_singlerun_place)
    set -l current (commandline -ct | string collect -a)
    test $words[1] = first; and not string length -q -- $current; and return # subcommands are enough
    set -q words[2]; or not string match -q -- '-*' $current; or return
    complete -C (string join ' ' -- (string escape -- $words[2..-1]) $current)
end

set -l run -c singlerun -n '__fish_singlerun_at first run'
complete -c singlerun -f
complete $run -s n -l name -x -a '(__fish_singlerun_record names)' -d 'Name of the lock'
complete $run -l lock-file -r -F -d 'Lock this file, as flock(1) does'
complete $run -l lock-fd -x -d 'Lock an open file of the caller, and exit'
complete $run -l lock-type -x -a 'auto flock lockfile' -d 'Kind of lock to take'
complete $run -s s -l shared -d 'Take a shared lock'
complete $run -s j -l slots -x -d 'Let up to N runs hold the name at once'
complete $run -s w -l wait -d 'If the lock is held, wait for it'
complete $run -l wait-for -x -d 'If the lock is held, wait at most this long'
complete $run -l skip -d 'If the lock is held, exit 0 without a message'
complete $run -s E -l conflict-exit-code -x -d 'If the lock is held, exit with this status'
complete $run -l replace -d 'If the lock is held, stop its holder and take its place'
complete $run -l queue -d 'Add the command to the queue of its name'
complete $run -l coalesce -d 'Wait, or exit 0 if another run is already waiting'
complete $run -l min-interval -x -d 'Refuse if the last start is more recent'
complete $run -l max-starts -x -d 'Refuse after N starts within this time'
complete $run -s t -l timeout -x -d 'Stop the command after this long'
complete $run -s k -l kill-after -x -d 'Grace period between SIGTERM and SIGKILL'
complete $run -l signal -x -a 'TERM INT HUP QUIT KILL USR1 USR2' -d 'Signal to send first instead of SIGTERM'
complete $run -l retries -x -d 'Run the command again if it fails'
complete $run -l retry-delay -x -d 'Delay before the command is run again'
complete $run -l restart -x -a 'on-failure on-success always' -d 'When to run the command again'
complete $run -l jitter -x -d 'First wait up to this long'
complete $run -l exec -d 'Replace singlerun with the command'
complete $run -l linger -d 'Hold the lock until the last background process exits'
set -l hook $run -x -a '(__fish_complete_command)'
complete $hook -l on-start -d 'Run this beside the command'
complete $hook -l on-success -d 'Run this if the command succeeds'
complete $hook -l on-failure -d 'Run this if the command fails'
complete $hook -l on-conflict -d 'Run this if the run is refused'
complete $hook -l on-finish -d 'Run this after the command in any case'
set -l events {start,success,failure,recovery,change,refused,overlong,overdue,lost,queue-empty}:
complete $run -l notify -x -a "$events" -d 'Tell of events by mail or HTTP'
complete $run -l log -d 'Keep a copy of the output'
complete $run -l only-failed -d 'Print the output only if the command fails'
complete $run -l require-record -d 'Refuse to run a command that cannot be recorded'
complete $run -l no-config -d 'Read no configuration file'
complete $run -s q -l quiet -d 'Print no message if the lock is held'
complete $run -s v -l verbose -d 'Report progress'
complete -c singlerun -n __fish_is_first_arg -l version -d 'Print the version and exit'
complete -c singlerun -n '__fish_singlerun_at first run add command' -a '(__fish_singlerun_command)'

set -l first -c singlerun -n '__fish_singlerun_at first'
complete $first -a add -d 'Add jobs to a queue'
complete $first -a cancel -d 'Remove pending jobs from their queue'
complete $first -a check -d 'Check for a monitoring system that all is well'
complete $first -a completion -d 'Print the completion for a shell'
complete $first -a config -d 'Look at the configuration, and change it'
complete $first -a doctor -d 'Find what is wrong, and say what mends it'
complete $first -a help -d 'Explain a subcommand'
complete $first -a history -d 'Show the latest runs and how they ended'
complete $first -a is-running -d 'Check whether a name is held'
complete $first -a logs -d 'Print the output kept for a run or job'
complete $first -a metrics -d 'Print metrics for Prometheus'
complete $first -a move -d 'Move a job to the front of its queue'
complete $first -a notify -d 'Try notifications, and show what waits to be told'
complete $first -a pause -d 'Keep anything from starting under a name'
complete $first -a prune -d 'Forget old runs, jobs, output and files'
complete $first -a ps -d 'Show running and waiting runs, orphans and zombies'
complete $first -a queue -d 'Show queued jobs'
complete $first -a reap -d 'Close the records of dead runs and resume queues'
complete $first -a resume -d 'Lift the pause of a name'
complete $first -a retry -d 'Queue failed, lost or cancelled jobs again'
complete $first -a run -d 'Run a command, even one with the name of a subcommand'
complete $first -a stats -d 'Show how often, how long and how well runs went'
complete $first -a stop -d 'Stop a run'
complete $first -a timeline -d 'Show what ran when, as lanes'
complete $first -a wait -d 'Wait for a run to end'
complete $first -a why -d 'Explain what keeps a name from starting'
complete $first -a worker -d 'Work off a queue in the foreground'

set -l all -c singlerun -n 'not __fish_singlerun_at command nothing'
complete $all -l dir -x -a '(__fish_complete_directories)' -d 'State directory'
complete $all -s h -l help -d 'Print a summary of the options and exit'

set -l any -c singlerun -n '__fish_singlerun_at check ps reap'
complete $any -a '(__fish_singlerun_record names)'
set -l name -c singlerun -n '__fish_singlerun_first_of history is-running pause stats timeline why'
complete $name -a '(__fish_singlerun_record names)'
complete -c singlerun -n '__fish_singlerun_at cancel' -a '(__fish_singlerun_record pending)'
complete -c singlerun -n '__fish_singlerun_first_of completion' -a 'bash fish zsh'
complete -c singlerun -n '__fish_singlerun_first_of config' -a 'path show get set unset check edit init'
complete -c singlerun -n '__fish_singlerun_config show' -a '(__fish_singlerun_record names)'
complete -c singlerun -n '__fish_singlerun_config get set unset' -a '(__fish_singlerun_record keys)'
complete -c singlerun -n '__fish_singlerun_config check' -F
complete -c singlerun -n '__fish_singlerun_first_of help' -a "singlerun $__fish_singlerun_subcommands"
complete -c singlerun -n '__fish_singlerun_first_of logs' -a '(__fish_singlerun_record names,runs)'
complete -c singlerun -n '__fish_singlerun_first_of move' -a '(__fish_singlerun_record pending)'
complete -c singlerun -n '__fish_singlerun_first_of notify' -a 'test list flush'
complete -c singlerun -n '__fish_singlerun_first_of queue' -a '(__fish_singlerun_record queues)'
complete -c singlerun -n '__fish_singlerun_first_of resume' -a '(__fish_singlerun_record paused)'
complete -c singlerun -n '__fish_singlerun_at retry' -a '(__fish_singlerun_record unsuccessful)'
complete -c singlerun -n '__fish_singlerun_first_of stop' -a '(__fish_singlerun_record running)'
complete -c singlerun -n '__fish_singlerun_first_of wait' -a '(__fish_singlerun_record running,jobs)'

set -l looking -c singlerun -n '__fish_singlerun_at check doctor history is-running notify prune ps queue reap stats timeline why'
complete $looking -l json -d 'Print JSON'
complete -c singlerun -n '__fish_singlerun_at history ps queue' -l format -x -d 'Print these fields only'

set -l check -c singlerun -n '__fish_singlerun_at check'
complete $check -s c -l critical -l expect -x -d 'Be critical if the last success is older'
complete $check -s w -l warning -x -d 'Warn if the last success is older'
complete $check -l overlong -x -d 'Warn if a run takes so many times as long as usual'
complete $check -l max-queued -x -d 'Warn if more jobs are ready in a queue'
complete $check -l max-refused -x -d 'Warn if more runs in a row were refused'
complete $check -l notify -d 'Print only changes, and send notifications'
complete $check -s q -l quiet -d 'Print nothing if all is well'

set -l metrics -c singlerun -n '__fish_singlerun_at metrics'
complete $metrics -l openmetrics -d 'Print the OpenMetrics format'
complete $metrics -l textfile -r -F -d 'Write this file, for node_exporter'
complete $metrics -l limit -x -d 'Include at most N names'
complete $metrics -s q -l quiet -d 'Do not say how many names are left out'

set -l add -c singlerun -n '__fish_singlerun_at add'
complete $add -s n -l name -x -a '(__fish_singlerun_record names)' -d 'Name of the queue, held while the job runs'
complete $add -l priority -x -d 'Priority; higher ones start first'
complete $add -l delay -x -d 'Do not start before this long has passed'
complete $add -l after -x -a '(__fish_singlerun_record jobs)' -d 'Start after this job has succeeded'
complete $add -l unique -d 'Replace the pending jobs of this name'
complete $add -l label -x -a '(__fish_singlerun_record labels)' -d 'Label for the job'
complete $add -l retries -x -d 'Retry if the job fails or is lost'
complete $add -l retry-delay -x -d 'Delay before the job is retried'
complete $add -l limit -x -d 'Refuse if more than N jobs would be pending'
complete $add -s t -l timeout -x -d 'Stop the job after this long'
complete $add -s k -l kill-after -x -d 'Grace period between SIGTERM and SIGKILL'
complete $add -l signal -x -a 'TERM INT HUP QUIT KILL USR1 USR2' -d 'Signal to send first instead of SIGTERM'
set -l add_hook $add -x -a '(__fish_complete_command)'
complete $add_hook -l on-start -d 'Run this beside the job'
complete $add_hook -l on-success -d 'Run this if the job succeeds'
complete $add_hook -l on-failure -d 'Run this if the job fails'
complete $add_hook -l on-finish -d 'Run this after the job in any case'
complete $add -l notify -x -a "$events" -d 'Tell of events by mail or HTTP'
complete $add -l env -x -a '(set -xn)' -d 'Keep this environment variable as well'
complete $add -l all-env -d 'Keep the whole environment'
complete $add -l stdin -d 'Read jobs, one shell command per line'
complete $add -s 0 -l null -d 'With --stdin: commands end with NUL'
complete $add -l json -d 'With --stdin: each line is JSON'
complete $add -s q -l quiet -d 'Do not print the IDs'
complete $add -l no-config -d 'Read no configuration file'

set -l config -c singlerun -n '__fish_singlerun_at config'
complete $config -l system -d 'Write to /etc/singlerun, for all users'
complete $config -l json -d 'Print JSON'

set -l past -c singlerun -n '__fish_singlerun_at history'
complete $past -l name -x -d 'Only names that match'
complete $past -l since -x -a 'today yesterday' -d 'Only runs that were waiting or running then or later'
complete $past -l until -x -a 'today yesterday' -d 'Only runs that were asked for before then'
complete $past -l state -x -a 'waiting running succeeded failed timed-out stopped refused skipped lost' \
    -d 'Only runs in this state'
complete $past -l failed -d 'Only failed, timed-out and lost runs'
complete $past -l refused -d 'Only refused and skipped runs'
complete $past -l limit -x -d 'Show the latest N runs'
complete $past -l json-lines -d 'Print JSON, one run per line'

complete -c singlerun -n '__fish_singlerun_at is-running' -l lock-file -r -F -d 'Check this file instead of a name'
complete -c singlerun -n '__fish_singlerun_at doctor' -s q -l quiet -d 'Print only problems: nothing if there are none'
complete -c singlerun -n '__fish_singlerun_at is-running' -s q -l quiet -d 'Print nothing; only set the exit status'

set -l logs -c singlerun -n '__fish_singlerun_at logs'
complete $logs -s f -l follow -d 'Keep printing until the command exits'
complete $logs -l tail -x -d 'Print only the last N lines'
complete $logs -l since -x -a 'today yesterday' -d 'Print only what was written from then on'
complete $logs -s t -l timestamps -d 'Print before each line when it was begun'
complete $logs -l all-failed -d 'Print the output of all failed runs of the name'
complete $logs -l list -d 'List what is kept'
complete $logs -l limit -x -d 'List at most N'
complete $logs -l json -d 'With --list, print JSON'

complete -c singlerun -n '__fish_singlerun_at move' -l first -d 'Move the job to the front'

complete -c singlerun -n '__fish_singlerun_at pause' -l for -x -d 'Resume after this long'

set -l ps -c singlerun -n '__fish_singlerun_at ps'
complete $ps -s a -l all -d 'Also show the latest 20 runs, even if they have ended'
complete $ps -l tree -d 'Show nested runs below the run that started them'
complete $ps -l watch -d 'Refresh every second'

set -l prune -c singlerun -n '__fish_singlerun_at prune'
complete $prune -l older-than -x -d 'Forget what ended longer ago'
complete $prune -l keep -x -d 'Keep the latest N runs of each name'
complete $prune -l dry-run -d 'Only print what would be forgotten'
complete $prune -s q -l quiet -d 'Print only errors'
complete $prune -l no-config -d 'Read no configuration file'

set -l queue -c singlerun -n '__fish_singlerun_at queue'
complete $queue -s a -l all -d 'Also show jobs that have ended'
complete $queue -l state -x -a 'queued delayed paused running succeeded failed cancelled lost' \
    -d 'Only jobs in this state'
complete $queue -l label -x -d 'Only jobs whose label matches'
complete $queue -l limit -x -d 'Show at most N jobs'
complete $queue -l watch -d 'Refresh every second'

set -l reap -c singlerun -n '__fish_singlerun_at reap'
complete $reap -l dry-run -d 'Only report what would be done'
complete $reap -l kill-orphans -d 'Stop orphans'
complete $reap -l break-lock -x -d 'Remove this claim on a lock file'
complete $reap -l lock-file -r -F -d 'Also examine the claims on this file'
complete $reap -s q -l quiet -d 'Do not report closed records'

set -l stats -c singlerun -n '__fish_singlerun_at stats'
complete $stats -l since -x -d 'Count runs from this time on'
complete $stats -l until -x -d 'Count runs up to this time'

set -l stop -c singlerun -n '__fish_singlerun_at stop'
complete $stop -s k -l kill-after -x -d 'Grace period between SIGTERM and SIGKILL'
complete $stop -l signal -x -a 'TERM INT HUP QUIT KILL USR1 USR2' -d 'Signal to send first instead of SIGTERM'
complete $stop -s q -l quiet -d 'Do not report what was stopped'

set -l timeline -c singlerun -n '__fish_singlerun_at timeline'
complete $timeline -l since -x -d 'Begin at this time'
complete $timeline -l until -x -d 'End at this time'
complete $timeline -l limit -x -d 'Draw the N names with the most runs'
complete $timeline -l html -r -F -d 'Write a page for a browser'
complete $timeline -l svg -r -F -d 'Write a picture'

complete -c singlerun -n '__fish_singlerun_at wait' -s t -l timeout -x -d 'Wait at most this long, then exit 124'

set -l worker -c singlerun -n '__fish_singlerun_at worker'
complete $worker -s n -l name -x -a '(__fish_singlerun_record queues)' -d 'Name of the queue'
complete $worker -l stay -d 'Wait for more jobs, and for another worker to exit'
complete $worker -l now -d 'Stop the current job too when a signal arrives'
