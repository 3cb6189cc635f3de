# The checkers themselves: each must complain about a wrong value planted for it, once.
expect 0 --version
must_complain expect 0 no-such-command
must_complain out_has 'no such text'
must_complain err_has 'no such text'
must_complain out_lines 7
must_complain err_lines 7
echo '{"a": 1}' >.theme/out
out_json 'r["a"] == 1'
must_complain out_json 'r["a"] == 2'
must_complain out_json 'r["b"] == 2'
mkdir one two
echo x | tee one/model.safetensors one/config.json >two/config.json
echo y >two/model.safetensors
must_complain same one two
[ "$planted" -eq 8 ] || complain "$planted planted, expected 8"
