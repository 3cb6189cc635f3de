# Wrong usage: one line that says what is wrong, exit code 2, nothing on stdout.
wrong() {
    expect 2 "$@"
    out_lines 0
    err_lines 1
    cat .theme/err
}

expect 2
err_has '^Usage: eqat COMMAND'
out_lines 0

wrong no-such-command
wrong eval
wrong eval m
wrong eval m --text
wrong eval m --text t --context 1
wrong eval m --text t --context 12x
wrong eval m --text t --bogus
wrong eval m --text t -z
wrong eval m another --text t
wrong eval m --text t --json=3
wrong quantize m
wrong quantize m -o o --bits 5
wrong quantize m -o o --method magic
wrong quantize m -o o --grid signed
wrong quantize m -o o --group 1.5
wrong quantize m -o o --memory 12Q
wrong quantize m -o o --memory -1
wrong quantize m -o o --quant-lr nan
wrong quantize m -o o --seed -1
wrong quantize m -o o --seed 18446744073709551616
wrong quantize m -o o --threads -1
wrong quantize m -o o -b
wrong export m
wrong export m -o o --format onnx
wrong generate m
wrong generate m -p x --prompt-file y
wrong generate m -p x --top-p 1.5
wrong generate m -p x --min-p 2
wrong generate m -p x --repetition-penalty 0
wrong generate m -p x $(printf -- "--stop %s " a b c d e f g h i j k l m n o p q)
wrong tokenize m
wrong tokenize m --text x --stdin
wrong logits m -o x
wrong logits m --tokens 1,x,3 -o x
wrong logits m --tokens '' -o x
wrong logits m --tokens 99999999999 -o x
wrong bench --only everything
wrong generate m -p x --activations 4
wrong generate m -p x --kv-bits 3
wrong eval m --text x --kv-bits 2
wrong inspect m --isa sse
EQAT_ISA=sse wrong inspect m
[ -e o ] && complain "wrong usage left an output folder"
[ -e x ] && complain "wrong usage left an output file"
