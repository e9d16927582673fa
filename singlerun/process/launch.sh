#!/bin/sh
# Starts singlerun under the interpreter that it was installed for. A first line for Python can name
# neither a long path nor one with a space, and cannot isolate the interpreter (-I) from variables
# and directories that are meant for the command.

set +efuvx # of bash's SHELLOPTS
# What fails here, such as a fork, isn't the command. (bash would also take a signal for an exit.)
[ -n "${BASH_VERSION-}" ] || trap 'exit 125' EXIT
script=$0
while :; do
    case $script in
    /*) ;;
    *) script=$PWD/$script ;;
    esac
    bin=${script%/*}
    [ -L "$script" ] || break
    # Where pipx and uv put what they link to; a look is cheaper than a process.
    for target in "${bin%/*}/share/pipx/venvs" "${bin%/*}/share/uv/tools" /opt/pipx/venvs; do
        target=$target/singlerun/bin/singlerun
        [ ! "$target" -ef "$script" ] || break
    done
    [ "$target" -ef "$script" ] || target=$(command readlink -- "$script") || break
    case $target in
    /*) script=$target ;;
    *) script=$bin/$target ;;
    esac
done
prefix=${bin%/*}
[ "$prefix/" -ef "$bin/.." ] || prefix=$(command cd -P -- "$bin/.." && pwd)

# The newest, if there are several. The last two are those of pip install --home and --target.
python= main=
for packages in "$prefix"/lib/python3*/site-packages "$prefix"/lib/python3*/dist-packages \
    "$prefix/lib/python" "$prefix"; do
    version=${packages%/*}
    version=${version##*/}
    case $version in python3*) ;; *) version=python3 ;; esac
    if [ ! -f "$packages/singlerun/__main__.py" ]; then
        [ -f "$packages/_editable_impl_singlerun.pth" ] || continue
        IFS= read -r packages <"$packages/_editable_impl_singlerun.pth" || :
    fi
    for candidate in "$bin/$version" "/usr/local/bin/$version" "/usr/bin/$version" ''; do
        [ -n "$candidate" ] || candidate=$(command -v "$version")
        if [ -x "$candidate" ]; then
            python=$candidate main=$packages/singlerun/__main__.py
            break
        fi
    done
done

# A shell drops, adds and rewrites variables. A copy of this one keeps those that it was started
# with, in its /proc/PID/environ, until Python has read them and closes a pipe. The pipe is that of a
# here-document, whose line is read first; where it is a file instead, that file gets the variables.
_singlerun_launch=
for fd in 9 8 7 6 5 4 3 ''; do
    [ -L "/proc/self/fd/$fd" ] || break # the caller's
done
if [ -n "$fd" ] && [ /proc/self -ef "/proc/$$" ]; then
    pipe=/proc/self/fd/$fd
    eval "command exec $fd<<E

E"
    if [ -p "$pipe" ] && eval "command exec $fd<>$pipe"; then
        { eval "exec <$pipe $fd>&-" && read -r _ && read -r _; } &
        _singlerun_launch=$!:$fd
    elif [ -f "$pipe" ] && command cat "/proc/$$/environ" >"$pipe"; then
        _singlerun_launch=:$fd
    else
        eval "exec $fd>&-"
    fi
fi
export _singlerun_launch

[ -z "$python" ] || exec "$python" -I -S "$main" "$@"
for python in "$bin/python" "$bin/python3"; do # installed in a way that is not known here
    main=$("$python" -I -c 'import singlerun; print(*singlerun.__path__)' 2>/dev/null) &&
        exec "$python" -I "$main/__main__.py" "$@"
done
echo "singlerun: $bin has no python3 that it was installed for; install it again" >&2
exit 125
