# What docs/ names exists: files, and the names of functions, types and constants.
pages=("$ROOT"/docs/*.md "$ROOT/README.md")
grep -ohE '\b(src|include|tests|tools|scripts|bench)/[A-Za-z0-9_./-]+\.[a-z]+\b' "${pages[@]}" |
    sort -u >paths
grep -ohE '\b(eq|EQ)_[A-Za-z0-9_]*[A-Za-z0-9]\b' "$ROOT"/docs/{math,tour,formats}.md |
    sort -u >names
[ "$(wc -l <paths)" -ge 20 ] || complain "too few paths: $(wc -l <paths)"
[ "$(wc -l <names)" -ge 40 ] || complain "too few names: $(wc -l <names)"
while IFS= read -r path; do
    [ -e "$ROOT/$path" ] || complain "docs name $path, which is not there"
done <paths
cat "$ROOT"/src/*.[ch] "$ROOT"/src/*/*.[ch] "$ROOT/include/eqat.h" >source
while IFS= read -r name; do
    grep -qw -- "$name" source || complain "docs name $name, which is not in the source"
done <names
