# fish completion for singlerun(1)

# Print where the cursor stands: "first" if a subcommand may come, "run" if only the options and the
# command of the prefix form may, the name of a subcommand behind that, and "command" from the command
# on. What follows on further lines are the words of the command before the cursor.
function __fish_singlerun_place
    set -l words (commandline -opc)
    while string match -qr '^\w+=' -- $words[1] # VARIABLE=value singlerun
        set -e words[1]
    end
    set -e words[1]
    set -l subcommands add cancel history is-running logs move pause ps queue reap resume retry run \
        stop wait worker
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
                    if not contains -- $place:$word first:$subcommands
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
            case --limit --dir --break-lock --priority --delay --after --label --env --for
                set -e words[1]
            case '--dir=*'
            case --name --lock-file --lock-type --slots --wait-for --conflict-exit-code \
                    --min-interval --max-starts --timeout --kill-after --retries --retry-delay --restart --jitter \
                    --on-{success,failure,conflict,finish}
                test $place = first; and set place run
                set -e words[1]
            case '--*'
                test $place = first; and set place run
            case '-?*'
                test $place = first; and set place run
                # Flags may be joined. What takes a value ends that: -qwn NAME, or -qwnNAME.
                contains -- $place run add stop wait worker
                and string match -qr '^-[^nEjtk]*[nEjtk]$' -- $word
                and set -e words[1]
            case $subcommands
                test $place = first; and set place $word
        end
    end
    printf '%s\n' $place $words
end

function __fish_singlerun_at
    set -l place (__fish_singlerun_place)
    contains -- $place[1] $argv
end

# Complete the command as if singlerun did not stand before it.
function __fish_singlerun_command
    set -l words (__fish_singlerun_place)
    set -l current (commandline -ct | string collect -a)
    set -q words[2]; or not string match -q -- '-*' $current; or return
    complete -C (string join ' ' -- (string escape -- $words[2..-1]) $current)
end

set -l run -c singlerun -n '__fish_singlerun_at first run'
complete -c singlerun -f
complete $run -s n -l name -x -d 'What must be single'
complete $run -l lock-file -r -F -d 'Lock this very file'
complete $run -l lock-type -x -a 'auto flock lockfile' -d 'Hold it by this'
complete $run -s s -l shared -d 'Take a shared lock'
complete $run -s j -l slots -x -d 'Let so many run at once'
complete $run -s w -l wait -d 'If it is held, wait'
complete $run -l wait-for -x -d 'If it is held, wait at most so long'
complete $run -l skip -d 'If it is held, say nothing and exit 0'
complete $run -s E -l conflict-exit-code -x -d 'If it is held, exit with this'
complete $run -l replace -d 'If it is held, end the holder and take its place'
complete $run -l queue -d 'Put it in the queue of this name'
complete $run -l coalesce -d 'Wait, but exit 0 if somebody waits already'
complete $run -l min-interval -x -d 'Refuse also if the last start is more recent'
complete $run -l max-starts -x -d 'Refuse also after N starts in this time'
complete $run -s t -l timeout -x -d 'End the command after so long'
complete $run -s k -l kill-after -x -d 'The time from TERM to KILL'
complete $run -l retries -x -d 'Run it again if it fails'
complete $run -l retry-delay -x -d 'Wait so long before it is run again'
complete $run -l restart -x -a 'on-failure on-success always' -d 'Run it again when it ends'
complete $run -l jitter -x -d 'First wait up to so long'
complete $run -l exec -d 'Become the command'
complete $run -l linger -d 'Hold until the last child that inherited the lock is gone'
set -l hook $run -x -a '(__fish_complete_command)'
complete $hook -l on-success -d 'Then run this if it succeeded'
complete $hook -l on-failure -d 'Then run this if it failed'
complete $hook -l on-conflict -d 'Run this if it is held'
complete $hook -l on-finish -d 'Then run this, however it ended'
complete $run -l log -d 'Keep a copy of the output'
complete $run -l only-failed -d 'Print the output only if it fails'
complete $run -l require-record -d 'Refuse to run what cannot be recorded'
complete $run -s q -l quiet -d 'Say nothing when it is held'
complete $run -s v -l verbose -d 'Say what happens'
complete -c singlerun -n __fish_is_first_arg -l version -d 'Show the version and exit'
complete -c singlerun -n '__fish_singlerun_at first run add command' -a '(__fish_singlerun_command)'

set -l first -c singlerun -n '__fish_singlerun_at first'
complete $first -a add -d 'Put jobs into a queue'
complete $first -a cancel -d 'Take jobs out of their queue'
complete $first -a history -d 'Show the latest runs and how they ended'
complete $first -a is-running -d 'Tell by the exit status whether a name is held'
complete $first -a logs -d 'Print the kept output of a run'
complete $first -a move -d 'Let a job be the next to start'
complete $first -a pause -d 'Let nothing start under a name'
complete $first -a ps -d 'Show what runs and waits, and what was left behind'
complete $first -a queue -d 'Show what is queued'
complete $first -a reap -d 'Close the records of runs whose processes are gone'
complete $first -a resume -d 'Take a pause away'
complete $first -a retry -d 'Put jobs back that did not succeed'
complete $first -a run -d 'Run a command, also one that is named like a subcommand'
complete $first -a stop -d 'End what runs'
complete $first -a wait -d 'Wait for the end of what runs'
complete $first -a worker -d 'Work off a queue in the foreground'

set -l all -c singlerun -n 'not __fish_singlerun_at command nothing'
complete $all -l dir -x -a '(__fish_complete_directories)' -d 'State directory'
complete $all -s h -l help -d 'Show a summary of the options and exit'

set -l looking -c singlerun -n '__fish_singlerun_at history is-running ps queue reap'
complete $looking -l json -d 'Print JSON'

set -l add -c singlerun -n '__fish_singlerun_at add'
complete $add -s n -l name -x -d 'The queue, and what is held meanwhile'
complete $add -l priority -x -d 'The higher, the earlier'
complete $add -l delay -x -d 'Start it in so long, not earlier'
complete $add -l after -x -d 'Start it when this job has succeeded'
complete $add -l unique -d 'Replace what is pending under this name'
complete $add -l label -x -d 'What to show with it'
complete $add -l retries -x -d 'Try it again if it fails or is lost'
complete $add -l retry-delay -x -d 'Wait so long before it is tried again'
complete $add -l limit -x -d 'Refuse if more than N would be pending'
complete $add -s t -l timeout -x -d 'End it after so long'
complete $add -s k -l kill-after -x -d 'The time from TERM to KILL'
complete $add -l env -x -a '(set -xn)' -d 'Let it have this variable too'
complete $add -l all-env -d 'Let it have the whole environment'
complete $add -l stdin -d 'Read the jobs: a shell command a line'
complete $add -s 0 -l null -d 'With --stdin: they end with NUL'
complete $add -l json -d 'With --stdin: each line is JSON'
complete $add -s q -l quiet -d 'Do not print the ids'

complete -c singlerun -n '__fish_singlerun_at history' -l limit -x -d 'Show the latest N runs'

complete -c singlerun -n '__fish_singlerun_at is-running' -l lock-file -r -F -d 'Ask for a locked file'
complete -c singlerun -n '__fish_singlerun_at is-running' -s q -l quiet -d 'Only tell by the exit status'

complete -c singlerun -n '__fish_singlerun_at logs' -s f -l follow -d 'Go on until the command has ended'

complete -c singlerun -n '__fish_singlerun_at move' -l first -d 'To the front of its queue'

complete -c singlerun -n '__fish_singlerun_at pause' -l for -x -d 'Only so long'

set -l ps -c singlerun -n '__fish_singlerun_at ps'
complete $ps -s a -l all -d 'Show the latest 20 runs too, also if they have ended'
complete $ps -l tree -d 'Show nested runs below those that started them'
complete $ps -l watch -d 'Show it again every second'

set -l queue -c singlerun -n '__fish_singlerun_at queue'
complete $queue -s a -l all -d 'Show what has ended too, the latest first'
complete $queue -l limit -x -d 'Show N at most'
complete $queue -l watch -d 'Show it again every second'

set -l reap -c singlerun -n '__fish_singlerun_at reap'
complete $reap -l dry-run -d 'Only tell what would be done'
complete $reap -l kill-orphans -d 'End what is left of orphans'
complete $reap -l break-lock -x -d 'Break this claim on a lock file'
complete $reap -l lock-file -r -F -d 'With the claims on this file'
complete $reap -s q -l quiet -d 'Print nothing of what was closed'

set -l stop -c singlerun -n '__fish_singlerun_at stop'
complete $stop -s k -l kill-after -x -d 'The time from TERM to KILL'
complete $stop -s q -l quiet -d 'Print nothing of what was ended'

complete -c singlerun -n '__fish_singlerun_at wait' -s t -l timeout -x -d 'Wait at most so long'

set -l worker -c singlerun -n '__fish_singlerun_at worker'
complete $worker -s n -l name -x -d 'The queue'
complete $worker -l stay -d 'Wait for more, and for who works it off already'
complete $worker -l now -d 'A signal ends the present job, too'
