# The numbers of docs/tour.md: those of the real model and of its quantization, and a page with a
# wrong number is seen.
need_python
need_model
expect 0 quantize "$MODEL" -o w2 -q --method rtn --init minmax --bits 2 --group 64
page=$ROOT/docs/tour.md
tour() { "$PYTHON" "$ROOT/tools/tour.py" "$MODEL" w2 --check "$1" 2>.theme/tour; }
tour "$page" || complain "docs/tour.md: $(head -c 2000 .theme/tour)"
sed 's/0x94159715/0x94159716/' "$page" >wrong-block.md
sed 's/^\([A-Z].*\)$/\1 4321/' "$page" >wrong-text.md
for wrong in wrong-block.md wrong-text.md; do
    cmp -s "$wrong" "$page" && complain "$wrong is docs/tour.md"
    tour "$wrong" && complain "$wrong passes"
done
