#!/usr/bin/env bash
#
# Unpack QEMU 10.0 from Debian 12's backports into a folder, without installing anything.
#
# Usage: fetch-qemu.sh [FOLDER]
#
# The default folder is ${XDG_CACHE_HOME:-$HOME/.cache}/transship/qemu-10.0. The last line on
# stdout is the path of an executable wrapper, `FOLDER/qemu-system-x86_64`, fit for TRANSSHIP_QEMU.
# Everything else goes to stderr. Running it again is quick: an unpacked QEMU that still starts is
# left alone.
#
# apt does the work with a configuration, package lists and a download folder of its own, so the
# system's sources, lists and packages stay as they are. The mirror is the one the machine uses.
# Needs: apt, dpkg-deb, flock, awk; no root.

set -euo pipefail

readonly WANTED_VERSION='10.0'
readonly CODENAME='bookworm'
readonly PACKAGE='qemu-system-x86'

say() { printf 'fetch-qemu: %s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# --- where apt finds packages ---------------------------------------------------------------------

# Print every apt source of the machine as deb822 stanzas, the one-line format converted.
print_system_sources() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $file ]] && one_line_to_deb822 "$file"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -r $file ]] || continue
        grep -v '^#' -- "$file" || true
        printf '\n'
    done
}

# Convert `deb [arch=amd64 signed-by=KEYRING] URI SUITE COMPONENT...` lines.
one_line_to_deb822() {
    awk '
        $1 != "deb" { next }
        {
            sub(/#.*/, "")
            options = ""
            if (match($0, /\[[^]]*\]/)) {
                options = substr($0, RSTART + 1, RLENGTH - 2)
                $0 = substr($0, 1, RSTART - 1) " " substr($0, RSTART + RLENGTH)
            }
            print "Types: deb\nURIs: " $2 "\nSuites: " $3
            printf "Components:"
            for (i = 4; i <= NF; i++) printf " %s", $i
            print ""
            count = split(options, option, " ")
            for (i = 1; i <= count; i++) {
                name = value = option[i]
                sub(/=.*/, "", name)
                sub(/^[^=]*=/, "", value)
                gsub(/,/, " ", value)
                if (name == "signed-by") print "Signed-By: " value
                if (name == "trusted") print "Trusted: " value
                if (name == "arch") print "Architectures: " value
            }
            print ""
        }' "$1"
}

# Keep the stanzas that serve this Debian release, and have the one of its main archive serve the
# backports as well.
select_debian_sources() {
    awk -v codename="$CODENAME" '
        function field(stanza, name,    lines, count, i) {
            count = split(stanza, lines, "\n")
            for (i = 1; i <= count; i++)
                if (index(tolower(lines[i]), tolower(name) ":") == 1)
                    return substr(lines[i], length(name) + 2) " "
            return " "
        }
        function has(list, word) { return index(" " list " ", " " word " ") > 0 }

        BEGIN { RS = ""; backports = codename "-backports" }
        {
            gsub(/\t/, " ")
            if (!has(field($0, "Types"), "deb") || !has(field($0, "Components"), "main")) next
            if (tolower(field($0, "Enabled")) ~ /no|false/ || field($0, "URIs") ~ /cdrom:/) next
            stanzas[++total] = $0
            if (has(field($0, "Suites"), backports)) served = 1
        }
        END {
            for (n = 1; n <= total; n++) {
                wanted = ""
                count = split(field(stanzas[n], "Suites"), suites, " ")
                for (i = 1; i <= count; i++) {
                    if (suites[i] !~ ("^" codename "(-updates|-security|-backports)?$")) continue
                    wanted = wanted " " suites[i]
                    if (suites[i] == codename && !served) wanted = wanted " " backports
                }
                if (wanted == "") continue
                count = split(stanzas[n], lines, "\n")
                for (i = 1; i <= count; i++) {
                    if (tolower(lines[i]) ~ /^suites:/) print "Suites:" wanted
                    else if (tolower(lines[i]) ~ /^types:/) print "Types: deb"
                    else print lines[i]
                }
                print ""
            }
        }'
}

# Write into folder $1 an apt that shares nothing writable with the system's. What only the system
# knows (proxies, credentials, keyrings) is still read; its hooks, which would clean or refresh the
# system's own folders, are not run.
write_private_apt() {
    local apt=$1 file
    mkdir -p "$apt"/{conf.d,sources.d,state/lists/partial,cache/archives/partial}
    print_system_sources | select_debian_sources >"$apt/sources.d/debian.sources"
    grep -q "^Suites:.* $CODENAME-backports" "$apt/sources.d/debian.sources" ||
        die "no apt source of this machine serves suite '$CODENAME', component 'main'"
    for file in /etc/apt/apt.conf.d/*; do
        [[ -r $file ]] && ln -sf "$file" "$apt/conf.d/"
    done
    cat >"$apt/conf.d/zz-private" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt/state";
Dir::State::lists "$apt/state/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$apt/cache/archives";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
CONF
    printf 'Dir::Etc::parts "%s";\n' "$apt/conf.d" >"$apt/apt.conf"
}

# --- the QEMU in the folder -----------------------------------------------------------------------

# Download the package and all it needs that the machine lacks, and unpack them into folder $2.
download_and_unpack() {
    local apt=$1 root=$2 deb
    export APT_CONFIG="$apt/apt.conf"
    say 'reading package lists'
    apt-get -qq update >&2 || die 'apt could not read the package lists (see above)'
    say "downloading $PACKAGE from $CODENAME-backports"
    apt-get -qq install --download-only --no-install-recommends \
        -t "$CODENAME-backports" "$PACKAGE" >&2 ||
        die "apt could not download $PACKAGE from $CODENAME-backports (see above)"
    # What is installed already was not fetched just now, but must not come from outside the folder.
    (cd "$apt/cache/archives" && apt-get -qq download -t "$CODENAME-backports" \
        qemu-system-{x86,common,data} seabios ipxe-qemu >&2) ||
        die 'apt could not download QEMU (see above)'
    mkdir -p "$root"
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$deb" "$root" || die "cannot unpack ${deb##*/}"
    done
}

# Write the wrapper that runs the unpacked binary with its own libraries, modules and firmware.
write_wrapper() {
    local root=$1 wrapper=$2
    [[ -x $root/usr/bin/qemu-system-x86_64 ]] || die "$PACKAGE holds no usr/bin/qemu-system-x86_64"
    cat >"$wrapper" <<'WRAPPER'
#!/bin/sh
# Written by fetch-qemu.sh: runs the QEMU unpacked beside this file.
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
ours=$libraries:$root/lib/x86_64-linux-gnu:$libraries/pulseaudio
LD_LIBRARY_PATH=$ours${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
QEMU_MODULE_DIR=$libraries/qemu
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec "$root/usr/bin/qemu-system-x86_64" \
    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
WRAPPER
    chmod +x "$wrapper"
}

# Print the version of the QEMU behind the wrapper, or nothing if it does not start.
wrapped_version() {
    [[ -x $1 ]] && "$1" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'
}

main() {
    (($# <= 1)) || die 'usage: fetch-qemu.sh [FOLDER]'
    local folder=${1:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/transship/qemu-$WANTED_VERSION} version
    mkdir -p "$folder"
    folder=$(readlink -f "$folder")
    local wrapper=$folder/qemu-system-x86_64

    exec 9>"$folder/.lock" # two test runs at once wait for each other
    flock 9

    version=$(wrapped_version "$wrapper" || true)
    if [[ $version != "$WANTED_VERSION"* ]]; then
        # shellcheck source=/dev/null
        [[ $(. /etc/os-release && echo "${VERSION_CODENAME:-}") == "$CODENAME" ]] ||
            die "this fetches backports of Debian 12 ($CODENAME); this machine is another system"
        [[ $(dpkg --print-architecture) == amd64 ]] || die 'only amd64 is provided for'

        work=$(mktemp -d "$folder/.work.XXXXXX")
        trap 'rm -rf -- "$work"' EXIT
        write_private_apt "$work/apt"
        download_and_unpack "$work/apt" "$work/root"
        rm -rf -- "$folder/root"
        mv -- "$work/root" "$folder/root"
        write_wrapper "$folder/root" "$wrapper"

        version=$(wrapped_version "$wrapper" || true)
        [[ -n $version ]] || {
            "$wrapper" --version >&2 || true
            die "the unpacked QEMU does not start (see above): $wrapper"
        }
        [[ $version == "$WANTED_VERSION"* ]] ||
            die "the backports hold QEMU $version, not $WANTED_VERSION"
    fi
    say "QEMU $version is ready"
    printf '%s\n' "$wrapper"
}

main "$@"
