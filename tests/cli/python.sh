# Other programs' view: a numpy reader and a numpy quantizer agree with the folder, and the
# `tokenizers` package with our ids.
need_python
need_model
expect 0 quantize "$MODEL" -o rtn3 -q --method rtn --init minmax --bits 3 --group 64
"$PYTHON" "$ROOT/tools/check_rtn.py" "$MODEL" rtn3 || complain "check_rtn.py"
expect 0 quantize "$MODEL" -o sym4 -q --method rtn --init minmax --grid symmetric --bits 4 --group 32
"$PYTHON" "$ROOT/tools/check_rtn.py" "$MODEL" sym4 || complain "check_rtn.py, symmetric"
cat >recipe.json <<'JSON'
{"rules": [{"layers": "0-14", "modules": ["down_proj"], "bits": 4, "group": 32},
           {"layers": "0,29", "modules": ["q_proj", "k_proj", "v_proj"], "bits": 8, "group": -1},
           {"layers": "7-20", "modules": ["gate_proj", "up_proj"], "bits": 2}]}
JSON
expect 0 quantize "$MODEL" -o mixed -q --method rtn --init minmax --bits 3 --group 64 \
    --recipe recipe.json
"$PYTHON" "$ROOT/tools/check_rtn.py" "$MODEL" mixed || complain "check_rtn.py, recipe"
# Start values by search; the weights of the weighted ones come from two windows of made-up tokens.
"$PYTHON" -c 'import numpy as np
np.save("ids.npy", np.random.default_rng(1).integers(17, 49152, (2, 32), dtype=np.int32))'
for grid in asymmetric symmetric; do
    for init in mse weighted; do
        expect 0 quantize "$MODEL" -o "$grid-$init" -q --method rtn --grid $grid --bits 2 --group 64 \
            --init $init --precision f32 --calib ids.npy --samples 2 --seqlen 32
        "$PYTHON" "$ROOT/tools/check_rtn.py" "$MODEL" "$grid-$init" --init $init --calib ids.npy ||
            complain "check_rtn.py, $grid, $init"
        rm -r "$grid-$init"
    done
done
"$PYTHON" "$ROOT/tools/check_tokenizer.py" "$EQAT" "$MODEL" "$ROOT/LICENSE" ||
    complain "check_tokenizer.py with the GGUF file"
"$PYTHON" "$ROOT/tools/check_tokenizer.py" "$EQAT" rtn3 "$ROOT/LICENSE" ||
    complain "check_tokenizer.py with the written folder"
