//! Values arrive byte for byte as one word, whatever they hold and wherever they stand: real shells are asked.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::spec::command::{Values, expand};
use crate::spec::types::Run;

/// Prints how many words it was given, and each.
const SHOW: &str = "show() { printf '%s\\0' \"$#\" \"$@\"; }\n[ -z \"$BASH_VERSION\" ] || shopt -s extglob\n";

/// Scripts for every POSIX shell, and what `show` prints with `%` for the value.
const EVERYWHERE: &[(&str, &str)] = &[
    ("show {params.x}", "1|%"),
    ("show --x={params.x}.txt", "1|--x=%.txt"),
    ("show a{params.x}b{params.x}", "1|a%b%"),
    ("show \"{params.x}\" \"<{params.x}>\"", "2|%|<%>"),
    ("show '{params.x}' '<{params.x}>' \"it's {params.x}\"", "3|%|<%>|it's %"),
    ("show a\"b{params.x}\"'c{params.x}'{params.x}", "1|ab%c%%"),
    ("show {params.x}'{params.x}'{params.x}''", "1|%%%"),
    ("v={params.x}; show \"$v\"", "1|%"),
    ("v=a{params.x}:{params.x} w=\"{params.x}\"; show \"$v\" \"$w\"", "2|a%:%|%"),
    ("export V={params.x}; show \"$V\"", "1|%"),
    ("v=$(printf %s {params.x}; echo .); show \"$v\"", "1|%."),
    ("v=$(printf %s \"{params.x}\"; echo .); show \"<$v>\"", "1|<%.>"),
    ("show \"$(printf %s \"{params.x}\" '{params.x}'; echo .)\"", "1|%%."),
    ("show \"a$(printf %s \"b$(printf %s \"{params.x}\")c\")d\"", "1|ab%cd"),
    ("show \"$(case a in a) printf %s \"{params.x}\";; *) show b;; esac; echo .)\"", "1|%."),
    ("show \"$(case b in (a|c) :;; b) printf %s \"{params.x}.\" ;; esac)\"", "1|%."),
    ("f() { show \"$1\" {params.x}; }; f {params.x}", "2|%|%"),
    ("f ()\n{\n  case $1 in\n  a|b) show no ;;\n  *) show '{params.x}' ;;\n  esac\n}\nf c", "1|%"),
    ("show a#{params.x} # it's {params.x}\nshow b", "1|a#%|1|b"),
    ("show \\\n  {params.x} \\\n  b", "2|%|b"),
    ("show a\\\n{params.x}", "1|a%"),
    ("case {params.x} in {params.x}) show yes;; *) show no;; esac", "1|yes"),
    ("case \"{params.x}\" in '{params.x}') show yes;; *) show no;; esac", "1|yes"),
    ("case x{params.x}y in x{params.x}*) show yes;; *) show no;; esac", "1|yes"),
    ("(show {params.x}) | cat", "1|%"),
    ("{ show {params.x}; } | cat && show {params.x} || :", "1|%|1|%"),
    ("for v in {params.x} \"{params.x}\"; do show \"$v\"; done", "1|%|1|%"),
    ("if [ {params.x} = \"{params.x}\" ]; then show {params.x}; fi", "1|%"),
    ("set -- {params.x} a; show \"$@\"", "2|%|a"),
    ("y=1; show $y{params.x} \"$y{params.x}\" ${y}{params.x} $#{params.x}", "4|1%|1%|1%|0%"),
    ("y=1; show \"${y:-z}{params.x}\" \"$((y + 1)){params.x}\"", "2|1%|2%"),
    ("show \"`echo a`{params.x}\"", "1|a%"),
    ("show \"\\\"{params.x}\\\"\" \"\\\\{params.x}\" \\\"{params.x}", "3|\"%\"|\\%|\"%"),
    ("cat <<EOF | cat\nit's $HOME_NOT {\nEOF\nshow {params.x}", "it's  {\n1|%"),
    ("show \"$(cat <<'EOF'\na ) ' \" b\nEOF\n)\" {params.x}", "2|a ) ' \" b|%"),
    ("show ~{params.x} ~/{params.x} =", "3|~%|/h/%|="),
    ("show {a,{params.x}", "1|{a,%"),
    ("show '{\"a\": \"{params.x}\"}' \"{params.x}}\"", "2|{\"a\": \"%\"}|%}"),
    ("show {{params.x}} '{{{params.x}}}' {params.x}", "3|{params.x}|{{params.x}}|%"),
    ("awk 'BEGIN { n = 1 } END { printf \"%d\", n }' </dev/null; show {params.x}", "11|%"),
    ("awk 'BEGIN {{ printf \"a\" }}' </dev/null; show {params.x}", "a1|%"),
    ("printf '%s\\0' {params.x}", "%"),
    ("printf '<%s>\\0' \"{params.x}\" | cat", "<%>"),
    ("show $(printf a){params.x}", "1|a%"),
    ("while :; do show {params.x}; break; done", "1|%"),
    ("! show {params.x}; :", "1|%"),
    ("show {params.x}>&1", "1|%"),
    ("show {params.x};show \"{params.x}\"&wait", "1|%|1|%"),
    ("env -i V={params.x} sh -c 'printf \"%s\\0\" \"$V\"'", "%"),
    ("sh -c 'printf \"%s\\0\" \"$1\"' - {params.x}", "%"),
];

/// Scripts for bash, ksh and zsh.
const RICHER: &[(&str, &str)] = &[
    ("a=({params.x} \"{params.x}\" # it's\n '{params.x}'); show \"${a[@]}\"", "3|%|%|%"),
    ("a=(); a+=({params.x}); show \"${a[@]}\"", "1|%"),
    ("show $'a\\t{params.x}\\x41'", "1|a\t%A"),
    ("show $'\\'{params.x}' \"$'{params.x}'\"", "2|'%|$'%'"),
    ("cat <<<{params.x} | { cat; printf '\\0'; }", "%\n"),
    ("cat <<< \"<{params.x}>\" | { cat; printf '\\0'; }", "<%>\n"),
    ("[[ {params.x} == \"{params.x}\" ]] && show yes", "1|yes"),
    ("[[ a{params.x}b == a{params.x}* && ( -n x{params.x} || b < a ) ]] && show yes", "1|yes"),
    ("if [[ ab =~ ^(a|x)b$ ]]; then show {params.x}; fi", "1|%"),
    ("cat <(printf '%s' {params.x} \"{params.x}\"); printf '\\0'", "%%"),
    ("for ((i = 0; i < 1; i++)); do show {params.x}; done", "1|%"),
    ("(( 1 + (2) )) && show {params.x}", "1|%"),
    ("function f { show \"{params.x}\"; }; f", "1|%"),
    ("typeset v={params.x}; show \"$v\"", "1|%"),
];

/// Scripts for bash alone.
const BASH: &[(&str, &str)] = &[
    ("[[ {params.x} =~ ^\"{params.x}\"$ ]] && show yes", "1|yes"),
    ("case a{params.x} in a@(b|{params.x})) show yes;; *) show no;; esac", "1|yes"),
    ("declare -A m=([k]={params.x}); show \"${m[k]}\"", "1|%"),
    ("show {a,{params.x}}", "2|a|%"),
    ("show \"$(case x in x) show \"{params.x}\" ;;& y) : ;; esac)\" | tr -d '\\0'; printf '\\0'", "11%"),
    ("show {params.x} &> >(cat); wait $!; sleep 0.01", "1|%"),
];

fn fill(script: &str, value: &str, shell: &str) -> String {
    let values =
        Values { params: BTreeMap::from([("x".to_owned(), value.to_owned())]), ..Values::default() };
    match expand(&Run::Script(script.to_owned()), &[shell.to_owned()], &values) {
        Ok(Run::Script(text)) => text,
        other => panic!("{script}: {other:?}"),
    }
}

fn run(shell: &str, script: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(shell);
    command.current_dir(folder.path()).env("HOME", "/h").env("LC_ALL", "C.UTF-8").env("PATH", std::env::var("PATH").unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let done = command.arg(file.path()).stdin(Stdio::null()).output().unwrap();
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a value ran as code: {script}");
    if !done.stderr.is_empty() {
        eprintln!("{}", String::from_utf8_lossy(&done.stderr));
    }
    done.stdout
}

/// Runs all scripts in one shell, each in a subshell.
fn check(shell: &str, name: &str, value: &str, scripts: &[(&str, &str)]) {
    let mark = "\u{1f512}";
    let mut all = SHOW.to_owned();
    for (script, _) in scripts {
        // The closing parenthesis stands on a line of its own, behind comments.
        all.push_str(&format!("(\n{}\n)\nprintf '%s' '{mark}'\n", fill(script, value, name)));
    }
    let out = String::from_utf8_lossy(&run(shell, &all)).into_owned();
    let parts: Vec<_> = out.split(mark).collect();
    for (index, (script, wanted)) in scripts.iter().enumerate() {
        let wanted = wanted.replace('|', "\0").replace('%', value);
        let seen = parts.get(index).copied().unwrap_or("nothing");
        let whole = format!("{wanted}\0");
        assert!(seen == wanted || seen == whole, "{shell}: {script}\nvalue {value:?}\nwanted {wanted:?}\nseen {seen:?}\nall: {}", fill(script, value, name));
    }
}

/// What broke other runners, and what means something to some shell.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "a b",
    "it's",
    "'",
    "''",
    "\"",
    "\\",
    "a\\",
    "\\'",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "'; touch pwned; '",
    "\"; touch pwned; \"",
    "x\ntouch pwned\n",
    "&& touch pwned #",
    "$HOME",
    "${HOME}",
    "$((1+1))",
    "a[$(touch pwned)]",
    "~",
    "~root",
    "-n",
    "--",
    "!",
    "!!",
    "*",
    "[a-z]*",
    "?",
    "{a,b}",
    "{1..3}",
    "{params.x}",
    "{{params.x}}",
    "%s%n",
    "a=b",
    "PATH=x",
    "=ls",
    "case",
    "esac",
    "if",
    "done",
    "}",
    "]]",
    "2",
    "a/b",
    "../a:b@c",
    "a,b",
    "1..9",
    "#",
    "# no comment",
    "<<EOF",
    "EOF",
    "(",
    ")",
    "\t",
    "\r\n",
    "\u{1}\u{7f}\u{1b}",
    "\u{80}\u{81}\u{88}",
    "é ü 漢字 🙂",
    "\u{2019}\u{a0}",
    "&1",
    ">pwned",
    "|touch pwned",
];

fn is_there(shell: &str) -> bool {
    Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success())
}

/// Shells that are not on every machine; `KILN_TEST_SHELLS` names a folder with more of them.
fn others() -> Vec<(String, &'static str)> {
    let folder = std::env::var("KILN_TEST_SHELLS").map(|folder| folder + "/").unwrap_or_default();
    let names = ["zsh", "ksh93", "mksh"];
    names.into_iter().map(|name| (format!("{folder}{name}"), name)).filter(|(path, _)| is_there(path)).collect()
}

#[test]
fn hostile_values_arrive_as_they_are_in_every_place_of_a_script() {
    let every: Vec<_> = [EVERYWHERE, RICHER, BASH].concat();
    for value in HOSTILE {
        check("bash", "bash", value, &every);
        check("dash", "dash", value, EVERYWHERE);
        for (path, name) in others() {
            // `~''` is the home folder for zsh.
            let known = EVERYWHERE.iter().filter(|(script, _)| name != "zsh" || !script.contains('~'));
            check(&path, name, value, &known.copied().collect::<Vec<_>>());
            check(&path, name, value, &RICHER[..if name == "mksh" { 5 } else { RICHER.len() }]);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_value_arrives_as_it_is_in_every_place_of_a_script(
        value in "([^\\x00]|['\"\\\\$`!*?~#&;|<>(){}\\[\\] \n\t=-]|EOF|case|esac|[$][(]touch pwned[)]){0,12}",
    ) {
        check("bash", "bash", &value, &[EVERYWHERE, RICHER, BASH].concat());
        check("dash", "dash", &value, EVERYWHERE);
    }
}
