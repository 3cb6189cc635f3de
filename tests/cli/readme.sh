# The examples of README.md, docs/guide.md and of every --help: commands that parse, a program that
# compiles.
sed -n "/^\`\`\`sh$/,/^\`\`\`$/p" "$ROOT/README.md" "$ROOT/docs/guide.md" >examples
expect 0 --help
for command in $(sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p' .theme/out); do
    "$EQAT" "$command" --help | sed -n '/^Examples:/,$p' >>examples
done
# A command that would be wrong usage fails before --help is answered.
sed -e ':join; /\\$/{N; s/\\\n//; b join}' examples | grep -E '^ *(build/)?eqat [a-z]+ ' |
    sed -e 's/ [<|] .*//' -e 's/^ *[^ ]*eqat //' >commands
[ "$(wc -l <commands)" -ge 30 ] || complain "too few examples: $(wc -l <commands)"
while IFS= read -r line; do
    eval "expect 0 $line --help"
done <commands

sed -n '/^```c$/,/^```$/p' "$ROOT/README.md" | sed '/^```/d' >example.c
[ -s example.c ] || complain "README.md has no example in C"
cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -I "$ROOT/include" example.c ||
    complain "the example of README.md does not compile"
