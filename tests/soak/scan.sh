# Describes a file or a folder: names, executable bits and digests, one line each.
one() {
  local bit=- sum
  if [ -x "$1" ]; then bit=x; fi
  sum=$(sha256sum < "$1")
  echo "$2 $bit ${sum%% *}"
}
scan() {
  local f r
  if [ ! -d "$1" ]; then one "$1" file; return; fi
  shopt -s globstar dotglob nullglob
  for f in "$1"/**; do
    r="${f#"$1"/}"
    if [ -z "$r" ]; then continue
    elif [ -L "$f" ]; then echo "link $r"
    elif [ -d "$f" ]; then echo "dir $r"
    else one "$f" "$r"; fi
  done
}
# The first line of a file.
first() {
  local l
  if [ -d "$1" ]; then echo folder; else IFS= read -r l < "$1"; echo "first $l"; fi
}
