# Every command has help with options and examples; the first page lists every command.
expect 0 --help
out_has '^Usage: eqat COMMAND'
err_lines 0
commands=$(sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p' .theme/out)
[ "$(echo "$commands" | wc -w)" -ge 7 ] || complain "too few commands: $commands"
for command in $commands; do
    expect 0 "$command" --help
    err_lines 0
    out_has "^Usage: eqat $command "
    out_has '^  -h, --help '
    out_has '^      --json '
    out_has '^  -t, --threads N '
    out_has '^Examples:$'
    out_has "^  eqat $command "
    awk 'length > 100' .theme/out | grep -q . && complain "eqat $command --help: long lines"
done

# The defaults shown are those of the method, bits and preset given with --help.
expect 0 quantize --method rtn --bits 3 --help
out_has 'only round to nearest \(default rtn\)'
out_has '^  -b, --bits 2\|3\|4\|8 .*\(default 3\)'

for preset in fast:128 default:768 best:1600 paper:4096; do
    expect 0 quantize --bits 2 --preset "${preset%:*}" --help
    sed -n '/--samples N/,/--val-samples/p' .theme/out | grep -qF "${preset#*:})" ||
        complain "$preset: $(grep -A2 -- '--samples N' .theme/out)"
done

expect 0 --version
out_has '^eqat [0-9]+\.[0-9]+\.[0-9]+$'
expect 0 -h
