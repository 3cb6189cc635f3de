# Other programs' view: a numpy reader and a numpy quantizer agree with the folder, and the
# `tokenizers` package with our ids.
need_python
need_model
expect 0 quantize "$MODEL" -o rtn3 -q --method rtn --init minmax --bits 3 --group 64
"$PYTHON" "$ROOT/tools/check_rtn.py" "$MODEL" rtn3 || complain "check_rtn.py"
"$PYTHON" "$ROOT/tools/check_tokenizer.py" "$EQAT" "$MODEL" "$ROOT/LICENSE" ||
    complain "check_tokenizer.py with the GGUF file"
"$PYTHON" "$ROOT/tools/check_tokenizer.py" "$EQAT" rtn3 "$ROOT/LICENSE" ||
    complain "check_tokenizer.py with the written folder"
