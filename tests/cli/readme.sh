# The examples of README.md and of every --help: commands that parse, a program that compiles.
sed -n "/^\`\`\`sh$/,/^\`\`\`$/p" "$ROOT/README.md" >examples
expect 0 --help
for command in $(sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p' .theme/out); do
    "$EQAT" "$command" --help | sed -n '/^Examples:/,$p' |
        sed -e ':join; /\\$/{N; s/\\\n//; b join}' >>examples
done
# A command that would be wrong usage fails before --help is answered.
grep -E '^ *(build/)?eqat [a-z]+ ' examples | sed -e 's/ [<|] .*//' -e 's/^ *[^ ]*eqat //' >commands
[ "$(wc -l <commands)" -ge 12 ] || complain "too few examples: $(wc -l <commands)"
while IFS= read -r line; do
    eval "expect 0 $line --help"
done <commands

sed -n '/^```c$/,/^```$/p' "$ROOT/README.md" | sed '/^```/d' >example.c
[ -s example.c ] || complain "README.md has no example in C"
cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -I "$ROOT/include" example.c ||
    complain "the example of README.md does not compile"
