#!/bin/bash
# Runs the tests that depend on libc's internals (thread-locals, stacks, fork, setuid, malloc) under
# the glibc of several Debian releases:  ci/glibc.sh [2.31] [2.36] [2.41] [sid]   (no version: all)
#
# It needs root (for chroot and mounts), Debian's packages (apt-get, dpkg-deb), python3 and cargo.
# How it works:
# 1. The tests are built here. They run on this machine's glibc and on newer ones. For an older one
#    they are built by cargo-zigbuild (from PyPI, into target/glibc). If it cannot be installed, the
#    script skips that glibc and says so.
# 2. apt downloads libc6 and libgcc-s1 of each release, with its own lists and state (the machine's
#    are not touched). They are unpacked into a folder, with busybox for sh, true and sleep.
# 3. A test runs in a mount namespace with that folder as its root. /proc, /dev, /sys, /tmp and the
#    sources are this machine's. cc and localedef there run in this machine's root (mounted at
#    /host) and use the same /tmp.
# 4. The table at the end has a line for each version and test. It counts the rows of a test that
#    showed nothing (without a debugger, for example); their texts are in GLIBC_LOGS, by default
#    target/glibc/logs.
#
# The exit status is 1 if a test failed, and 3 if a requested version was skipped.
# CARGO_PROFILE is the build profile, by default "fast".
set -eu
cd "$(dirname "$0")/.."
repo=$PWD
work=${CARGO_TARGET_DIR:-$repo/target}/glibc
logs=${GLIBC_LOGS:-$work/logs}
profile=${CARGO_PROFILE:-fast}
arch=x86_64-linux-gnu
triple=x86_64-unknown-linux-gnu
lib_tests=stack:: # the library's unit tests of blocks, slots and libc's list of threads
tests='thread_locals thread_locals_of_crates thread_locals_shared stacks as_a_thread big_thread_locals fork guards swap unknown_layout'
limit=300 # seconds for each test program

say() { printf '%s\n' "$*" >&2; }
die() { say "glibc.sh: $*"; exit 2; }

[ "$(id -u)" = 0 ] || die 'this needs root, for mounts and chroot'
for tool in apt-get dpkg-deb unshare cargo python3; do
    command -v "$tool" >/dev/null || die "this needs $tool"
done
mkdir -p "$work" "$logs"

# Prints the Debian release that has a version of glibc.
suite_of() {
    case $1 in
        2.31) echo bullseye ;;
        2.36) echo bookworm ;;
        2.41) echo trixie ;;
        sid) echo sid ;;
        *) die "unknown glibc version $1; known: 2.31, 2.36, 2.41, sid" ;;
    esac
}

# Runs apt with the lists, the cache and the (empty) list of installed packages of one suite.
apt_of() {
    local suite=$1 state=$work/apt/$1
    shift
    apt-get -qq -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state" \
        -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Sandbox::User=root -o DPkg::Post-Invoke= -o APT::Update::Post-Invoke-Success= "$@"
}

# Downloads and unpacks a release's libc; prints its root.
root_of() {
    local suite=$1 state=$work/apt/$1 root=$work/root/$1 deb dir tool
    if [ ! -e "$root/complete" ]; then
        rm -rf "$root" "$state"
        mkdir -p "$state/lists/partial" "$state/archives/partial" "$root/usr/lib" "$root/usr/lib64"
        : >"$state/status"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
            "http://deb.debian.org/debian $suite main" >"$state/sources.list"
        apt_of "$suite" update >&2 || return 1
        (cd "$state" && apt_of "$suite" download libc6 libgcc-s1 busybox-static >&2) || return 1
        # In newer releases /lib is a link to /usr/lib; here it is in all of them.
        for deb in "$state"/*.deb; do
            rm -rf "$root/unpacked"
            dpkg-deb -x "$deb" "$root/unpacked"
            for dir in lib lib64 bin; do
                [ ! -d "$root/unpacked/$dir" ] || [ -L "$root/unpacked/$dir" ] && continue
                mkdir -p "$root/usr/$dir"
                cp -a "$root/unpacked/$dir/." "$root/usr/$dir/"
            done
            [ ! -d "$root/unpacked/usr" ] || cp -a "$root/unpacked/usr/." "$root/usr/"
        done
        rm -rf "$root/unpacked"
        for dir in bin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
        for tool in sh true false sleep echo cat grep env kill; do
            ln -s busybox "$root/usr/bin/$tool"
        done
        for tool in cc localedef; do
            printf '#!/bin/sh\nexec busybox chroot /host %s "$@"\n' "$tool" >"$root/usr/bin/$tool"
            chmod +x "$root/usr/bin/$tool"
        done
        mkdir -p "$root/etc" "$root/host" "$root/proc" "$root/dev" "$root/sys" "$root/tmp"
        echo '127.0.0.1 localhost' >"$root/etc/hosts"
        echo 'hosts: files' >"$root/etc/nsswitch.conf"
        echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"
        : >"$root/complete"
    fi
    echo "$root"
}

# Reads cargo's messages; prints a line "name path" for each test program.
programs() {
    python3 -c '
import json, sys
for line in sys.stdin:
    m = json.loads(line) if line.startswith("{") else {}
    target = m.get("target", {}).get("name")
    if m.get("executable") and m.get("profile", {}).get("test") and target != "gort_tests":
        print("lib" if "lib" in m["target"]["kind"] else m["target"]["name"], m["executable"])'
}

# Builds the tests with the given command (`cargo test` or similar) and prints the programs.
build() {
    local args='--lib' t
    for t in $tests; do args="$args --test $t"; done
    # shellcheck disable=SC2086
    "$@" --no-run --profile "$profile" -p gort -p gort-tests $args \
        --message-format=json-render-diagnostics >"$work/messages" || return 1
    programs <"$work/messages"
}

build_for_2_31() {
    if [ ! -x "$work/zig/bin/cargo-zigbuild" ]; then
        python3 -m venv "$work/zig" >&2 || return 1
        "$work/zig/bin/pip" -q install cargo-zigbuild==0.20.1 ziglang==0.15.2 >&2 || return 1
    fi
    PATH=$work/zig/bin:$PATH build cargo-zigbuild test --target "$triple.2.31"
}

# Runs a test program in a root: run_in ROOT PROGRAM ARGS...
run_in() {
    # shellcheck disable=SC2016
    timeout -k 5 "$limit" unshare -m --propagation private sh -eu -c '
        root=$1 repo=$2 work=$3
        shift 3
        for dir in /proc /dev /sys /tmp; do mount --rbind "$dir" "$root$dir"; done
        mount --rbind / "$root/host"
        for dir in "$repo" "$work"; do
            mkdir -p "$root$dir"
            mount --rbind "$dir" "$root$dir"
        done
        exec chroot "$root" /usr/bin/env -i HOME=/ PATH=/usr/bin RUST_BACKTRACE=1 \
            sh -c "cd \"\$0\" && exec \"\$@\"" "$repo/crates/gort" "$@"' \
        sh "$1" "$repo" "${CARGO_TARGET_DIR:-$repo/target}" "${@:2}"
}

table=$work/table
: >"$table"
status=0
row() { printf '%-8s %-22s %s\n' "$@" | tee -a "$table" >&2; }
skip() { row "$1" '-' "SKIPPED: $2"; [ "$status" = 1 ] || status=3; }

here=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
own= older=
[ $# -gt 0 ] || set -- 2.31 2.36 2.41 sid
for version in "$@"; do
    suite=$(suite_of "$version")
    say "== glibc $version (Debian $suite)"
    root=$(root_of "$suite") || { skip "$version" "its packages could not be downloaded"; continue; }
    found=$(dpkg-deb -f "$work/apt/$suite"/libc6_*.deb Version)
    found=${found%%-*}
    if [ "$(printf '%s\n' "$here" "$found" | sort -V | head -1)" = "$here" ]; then
        [ -n "$own" ] || own=$(build cargo test) || die 'the tests do not build'
        list=$own
    elif [ "$version" = 2.31 ]; then
        [ -n "$older" ] || older=$(build_for_2_31) || {
            skip "$found" 'cargo-zigbuild (for older glibcs) could not be installed or failed'
            continue
        }
        list=$older
    else
        skip "$found" "programs built here, with glibc $here, do not run there"
        continue
    fi
    # Up to 2.33 libc does not export what goroutines with their own thread-locals need.
    keeps=no
    [ "$(printf '%s\n' 2.34 "$found" | sort -V | head -1)" = 2.34 ] || keeps=yes
    while read -r name program; do
        case $keeps-$name in
            no-* | yes-thread_locals_shared | yes-unknown_layout) ;;
            *)
                row "$found" "$name" 'not run: gort does not start on this libc, see unknown_layout'
                continue
                ;;
        esac
        log=$logs/$found-$name.log
        filter=
        [ "$name" != lib ] || filter=$lib_tests
        code=0
        # shellcheck disable=SC2086
        run_in "$root" "$program" $filter --show-output >"$log" 2>&1 </dev/null || code=$?
        result=$(sed -n 's/^test result: \([a-zA-Z]*\)\. \([0-9]*\) passed; \([0-9]*\) failed.*/\2 passed, \3 failed/p' \
            "$log" | tail -1)
        nothing=$(grep -c 'shows nothing' "$log" || true)
        [ "$nothing" = 0 ] || result="$result ($nothing showed nothing)"
        [ "$code" = 0 ] || { status=1; result="${result:-no result} (exit status $code): see $log"; }
        row "$found" "$name" "$result"
    done <<<"$list"
done

say ''
cat "$table"
exit "$status"
