#!/bin/sh
# SPDX-License-Identifier: MIT
# links.sh ROOT: what the project's *.md files name is there:
#   - the target of each relative link, and its heading if the link has one;
#   - each path in the project's folders (src/..., docs/..., tests/... and so on; a * may stand in it);
#   - each sr_ and SR_ name, in the headers or in src/, and each sri_, SRI_ and SAFERING_ name, anywhere
#     in the project;
# and README.md quotes examples/read_file.c word for word.
set -eu

cd "$1"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export LC_ALL=C
checked=0

problem() {
    echo "$*" >>"$place/problems"
}

# ---- what there is ------------------------------------------------------------------------------------
find . \( -name .git -o -name build -o -name 'build-*' \) -prune -o -name '*.md' -print |
    sed 's|^\./||' | sort >"$place/pages"
[ -s "$place/pages" ] || problem "no *.md file found: nothing was tested"
find include src -name '*.[ch]' -exec grep -ohE '\b(sr|SR)_[A-Za-z0-9_]+' {} + | sort -u >"$place/public"
find include src tests examples bench scripts cmake .ci CMakeLists.txt CMakePresets.json -type f \
    ! -name '*.md' -exec grep -ohE '\b(sri|SRI|SAFERING)_[A-Za-z0-9_]+' {} + | sort -u >"$place/private"

# The anchors of a page: its headings, in the form that hosting sites give them.
anchors() {
    sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

# ---- links --------------------------------------------------------------------------------------------
check_links() {
    # Code is not text: fenced blocks and `spans` have no links.
    awk '/^ *```/ {code = !code; next} !code {gsub(/`[^`]*`/, ""); print}' "$1" |
        grep -oE '\]\([^)]*\)' | sed 's/^](//; s/)$//' >"$place/links" || true
    while read -r target; do
        case $target in
        http://* | https://* | mailto:*) continue ;;
        esac
        checked=$((checked + 1))
        file=${target%%#*}
        if [ -n "$file" ]; then
            file=$(dirname "$1")/$file
        else
            file=$1
        fi
        if [ ! -e "$file" ]; then
            problem "$1: link to $target: there is no such file"
        elif [ "$target" != "${target#*#}" ] && ! anchors "$file" | grep -qxF "${target#*#}"; then
            problem "$1: link to $target: there is no such heading"
        fi
    done <"$place/links"
}

# ---- paths --------------------------------------------------------------------------------------------
check_paths() {
    # A path that goes on from something else (../docs, build/dev/tests) is not one of ours.
    grep -oE '(^|[^A-Za-z0-9_./<>-])(src|include|docs|tests|examples|scripts|bench|cmake|\.ci)/[A-Za-z0-9_./*-]*' "$1" |
        sed 's/^[^a-z.]//; s/[.,:]*$//' | sort -u >"$place/paths" || true
    while read -r path; do
        checked=$((checked + 1))
        # shellcheck disable=SC2086 # a * in it stands for files
        set -- "$1" $path
        [ -e "$2" ] || problem "$1: names $path, which is not there"
    done <"$place/paths"
}

# ---- names --------------------------------------------------------------------------------------------
# check_names PAGE PREFIXES LIST WHERE: a name that ends in _ is the beginning of others.
check_names() {
    grep -oE "\b($2)_[A-Za-z0-9_]+" "$1" | sort -u >"$place/names" || true
    while read -r name; do
        checked=$((checked + 1))
        case $name in
        *_) grep -q "^$name" "$3" || problem "$1: no name in $4 begins with $name" ;;
        *) grep -qxF "$name" "$3" || problem "$1: $name is not in $4" ;;
        esac
    done <"$place/names"
}

while read -r page; do
    check_links "$page"
    check_paths "$page"
    check_names "$page" 'sr|SR' "$place/public" "the headers and src/"
    check_names "$page" 'sri|SRI|SAFERING' "$place/private" "the project's sources"
done <"$place/pages"

# ---- the example --------------------------------------------------------------------------------------
awk '/^```c$/ {inside = 1; next} /^```/ && inside {exit} inside' README.md >"$place/quoted"
diff -u "$place/quoted" examples/read_file.c >"$place/difference" ||
    problem "README.md does not quote examples/read_file.c:
$(cat "$place/difference")"

[ "$checked" -gt 0 ] || problem "no link, path or name found: nothing was tested"
if [ -s "$place/problems" ]; then
    cat "$place/problems"
    exit 1
fi
echo "$(wc -l <"$place/pages") pages: $checked links, paths and names are right, README quotes the example"
