# SPDX-License-Identifier: MIT
# Prints the name of each function that the given headers declare with SR_API, one per line. A
# declaration that is not a function (an exported variable) is an error: the ABI has none.
#
# Comments and preprocessor lines go first; what is left of a declaration is everything from SR_API
# to the semicolon, and the name is the identifier in front of the first parenthesis.
{
    text = text "\n" $0
}

END {
    gsub(/\\\n/, " ", text)
    while (match(text, /\/\*([^*]|\*+[^*\/])*\*+\//)) {
        text = substr(text, 1, RSTART - 1) " " substr(text, RSTART + RLENGTH)
    }
    count = split(text, lines, "\n")
    code = ""
    for (i = 1; i <= count; i++) {
        if (lines[i] !~ /^[ \t]*#/) {
            code = code " " lines[i]
        }
    }
    count = split(code, parts, /(^|[^A-Za-z0-9_])SR_API[^A-Za-z0-9_]/)
    for (i = 2; i <= count; i++) {
        declaration = parts[i]
        sub(/;.*/, "", declaration)
        if (!match(declaration, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/)) {
            print "not a function: SR_API " declaration > "/dev/stderr"
            failed = 1
            continue
        }
        name = substr(declaration, RSTART, RLENGTH)
        sub(/[ \t]*\($/, "", name)
        print name
    }
    exit failed
}
