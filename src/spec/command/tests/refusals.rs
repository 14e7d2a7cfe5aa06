//! What is refused, where, and what is left alone.

use std::collections::BTreeMap;

use crate::spec::command::{CommandError, Refusal, Region, Space, Values, expand, placeholders};
use crate::spec::types::Run;

fn shell(name: &str) -> Vec<String> {
    name.split(' ').map(str::to_owned).collect()
}

fn refused_by(name: &str, script: &str) -> CommandError {
    let run = Run::Script(script.to_owned());
    placeholders(&run, &shell(name)).expect_err(script)
}

fn region(name: &str, script: &str) -> Region {
    match refused_by(name, script).refusal {
        Refusal::Region { region, .. } => region,
        other => panic!("{script}: {other:?}"),
    }
}

fn filled(name: &str, script: &str) -> String {
    let values = Values {
        inputs: BTreeMap::from([("a".to_owned(), "inputs/a".to_owned())]),
        outputs: BTreeMap::from([("o".to_owned(), "outputs/o".to_owned())]),
        params: BTreeMap::from([("n".to_owned(), "7".to_owned()), ("x".to_owned(), "it's".to_owned())]),
        checkpoint: "../checkpoint".to_owned(),
    };
    match expand(&Run::Script(script.to_owned()), &shell(name), &values) {
        Ok(Run::Script(text)) => text,
        other => panic!("{script}: {other:?}"),
    }
}

#[test]
fn a_placeholder_is_refused_where_no_value_is_safe() {
    for (script, wanted) in [
        ("cat <<EOF\n{params.x}\nEOF", Region::HereDocument),
        ("cat <<'EOF'\n{params.x}\nEOF", Region::HereDocument),
        ("cat <<-E\\OF\n\t{params.x}\n\tEOF".replace("E\\OF", "\"EOF\"").leak(), Region::HereDocument),
        ("x=$(cat <<EOF\n{params.x}\nEOF\n)", Region::HereDocument),
        ("cat <<A <<B\nA\n{params.x}\nB", Region::HereDocument),
        ("echo `echo {params.x}`", Region::Backticks),
        ("echo \"`echo {params.x}`\"", Region::Backticks),
        ("echo $(( {params.x} + 1 ))", Region::Arithmetic),
        ("echo \"$((1 + $(echo {params.x})))\"", Region::Arithmetic),
        ("(( {params.x} > 1 )) && ls", Region::Arithmetic),
        ("for ((i = 0; i < {params.x}; i++)); do :; done", Region::Arithmetic),
        ("echo ${x:-{params.x}}", Region::Parameter),
        ("echo \"${x:-$(echo \"{params.x}\")}\"", Region::Parameter),
        ("a[{params.x}]=1", Region::Subscript),
        ("a[\"{params.x}\"]=1", Region::Subscript),
        ("a[b[1]+{params.x}]=1", Region::Subscript),
        ("a=([{params.x}]=1)", Region::Subscript),
        ("ls [{params.x}]*", Region::Subscript),
        ("[[ {params.x} -eq 1 ]]", Region::NumberTest),
        ("[[ -v {params.x} ]]", Region::NumberTest),
        ("echo \\{params.x}", Region::Backslash),
        ("echo \"\\{params.x}\"", Region::Backslash),
        ("echo $'\\{params.x}'", Region::Backslash),
        ("echo $\"{params.x}\"", Region::Translated),
        ("ls >&{params.x}", Region::Duplicate),
        ("ls >& \"2{params.x}\"", Region::Duplicate),
    ] {
        assert_eq!(region("bash", script), wanted, "{script}");
    }
    assert_eq!(region("dash", "echo $'{params.x}'"), Region::EscapeString);
    assert_eq!(region("zsh", "ls *(e:{params.x}:)"), Region::Parentheses);
    assert_eq!(region("zsh", "ls (e:{params.x}:)"), Region::Parentheses);
    assert_eq!(region("ksh", "a=({params.x})"), Region::Parentheses);
    assert!(matches!(refused_by("zsh", "echo $${params.x}").refusal, Refusal::Lost(_)));
    assert_eq!(region("zsh", "echo \"$a[{params.x}]\""), Region::Subscript);
}

#[test]
fn a_script_that_cannot_be_followed_is_refused_when_it_has_a_placeholder() {
    for script in [
        "echo 'a {params.x}",
        "echo \"a {params.x}",
        "(echo {params.x}",
        "echo {params.x})",
        "echo {params.x} `a",
        "x=$(echo {params.x}",
        "cat <<EOF\nEO F\necho {params.x}",
        "cat <<$E\n$E\necho {params.x}",
        "cat <<EOF \"a\nb\"\nEOF\necho {params.x}",
        "cat <<EOF\na \\\nEOF\necho {params.x}\nEOF",
        "x=$(cat <<EOF)\nEOF\necho {params.x}",
        "echo $[1 + 1] {params.x}",
        "echo \"${x#'}'}\" {params.x}",
        "echo \"${x:-\"}\"}\" {params.x}",
        "echo ${x:-{a}} {params.x}",
        "echo ${ ls; } {params.x}",
        "echo $\\\n(echo {params.x})",
        "cat <\\\n<EOF\n{params.x}\nEOF",
        "((echo 'a'); (echo {params.x}))",
        "case a b) echo {params.x};; esac",
        "echo \"$(>f case x in a) echo \"{params.x}\";; esac)\"",
        "esac {params.x}",
        "echo a;; echo {params.x}",
        "echo (a) {params.x}",
        "a[1 + {params.x}]=1",
        "a=([ {params.x} ]=1)",
    ] {
        let error = refused_by("bash", script);
        let known = matches!(error.refusal, Refusal::Lost(_));
        assert!(known && error.hint().is_some(), "{script}: {error}");
        // Without a placeholder it is the shell's business.
        let plain = script.replace("{params.x}", "x");
        assert_eq!(filled("bash", &plain), plain);
    }
    assert!(matches!(refused_by("sh", "echo $'it\\'s' {params.x}").refusal, Refusal::Lost(_)));
    let deep = format!("{}{{params.x}}", "$(".repeat(100_000));
    assert!(matches!(refused_by("bash", &deep).refusal, Refusal::Lost(_)));
}

#[test]
fn no_hint_puts_a_value_where_a_shell_evaluates_it() {
    for script in ["echo $(( {params.x} ))", "[[ {params.x} -eq 0 ]]", "a[{params.x}]=1"] {
        let hint = refused_by("bash", script).hint().unwrap();
        assert!(hint.contains("awk") && !hint.contains("and `$value` in this place"), "{script}: {hint}");
    }
}

#[test]
fn a_script_for_a_shell_that_is_not_posix_takes_no_placeholders() {
    for name in
        ["python3", "fish", "csh", "/usr/bin/perl -w", "Rscript", "pwsh", "conda run bash", "env A=1 bash"]
    {
        let error = refused_by(name, "print('{params.x}')");
        assert!(error.hint().is_some_and(|hint| hint.contains("`KILN_PARAM_x`")), "{error}");
    }
    assert_eq!(filled("python3", "print(f'{x} {{params.x}}')"), "print(f'{x} {params.x}')");
    for name in
        ["sh", "/bin/dash", "bash -eo pipefail", "bash5.2", "ksh93", "zsh -e", "env bash", "busybox sh"]
    {
        assert_eq!(filled(name, "cp {inputs.a} {outputs.o}"), "cp inputs/a outputs/o", "{name}");
    }
}

#[test]
fn what_looks_like_a_placeholder_is_an_error_that_gives_the_right_one() {
    for (script, right) in [
        ("cat {input.x}", "{inputs.x}"),
        ("cat {Inputs.x}", "{inputs.x}"),
        ("cat {imputs.x}", "{inputs.x}"),
        ("cat {output.x}", "{outputs.x}"),
        ("cat {param.x}", "{params.x}"),
        ("cat {inputs.x y}", "{inputs.x}"),
        ("cat {inputs.x:q}", "{inputs.x}"),
        ("cat {inputs.x.y}", "{inputs.x}"),
        ("cat {inputs[x]}", "{inputs.x}"),
        ("cat {params['x']}", "{params.x}"),
        ("cat { inputs.x }", "{inputs.x}"),
        ("cat {{ inputs.x }}", "{inputs.x}"),
        ("cat {inputs.x", "{inputs.x}"),
        ("cat {inputs.}", "{inputs.NAME}"),
        ("cat {inputs}", "{inputs.NAME}"),
        ("cat {checkpoint.x}", "{checkpoint}"),
        ("cat {checkpoints}", "{checkpoint}"),
    ] {
        for name in ["bash", "python3"] {
            let error = refused_by(name, script);
            let Refusal::Slip { right: given, .. } = &error.refusal else { panic!("{script}: {error:?}") };
            assert_eq!(given, right, "{script}");
            assert_eq!(error.spot.offset, script.rfind('{').unwrap(), "{script}");
        }
    }
    for script in ["echo ${params.x}", "echo \"${params.x}\"", "echo '${params.x}'", "echo ${{params.x}}"] {
        let error = refused_by("bash", script);
        assert_eq!(error.refusal, Refusal::Dollar { text: "{params.x}".into() }, "{script}");
    }
}

#[test]
fn braces_that_are_no_placeholder_belong_to_the_shell() {
    for text in [
        "echo ${x} ${x:-y} ${#x} \"${x##*/}\" ${checkpoint} ${inputs} \"${params}\"",
        "echo {a,b} {1..3} a{,.bak} {params.json,backup} {}",
        "f() { ls; }; { ls; } && { inputs.x; }",
        "awk '{print $1}' | awk '{{ total += $1 }} END {{ print total }}'",
        "find . -exec rm {} +",
        "perl -e 'print $h{inputs}, @{params}'",
        "echo '{\"a\": {\"b\": 1}}' '\\frac{a}{b}' '{x} {input} {parts.x}'",
        "} { {{ }} {{}} {x.y} {params",
        "# {input.x}",
    ] {
        assert_eq!(filled("bash", text), text);
        let with = format!("{text}\ncp {{inputs.a}} {{outputs.o}}");
        assert_eq!(filled("bash", &with), format!("{text}\ncp inputs/a outputs/o"));
    }
    assert_eq!(filled("bash", "echo {{params.x}} '${{params.x}}'"), "echo {params.x} '${params.x}'");
    assert_eq!(filled("bash", "cat <<E\n{{output.x}}\nE\nls {params.n}"), "cat <<E\n{output.x}\nE\nls '7'");
    assert_eq!(filled("bash", "# {params.x} it's\nls {checkpoint}"), "# {params.x} it's\nls ../checkpoint");
    assert_eq!(filled("bash", "seq {1..{params.n}} $$\"{params.n}\""), "seq {1..7} $$\"\"'7'\"\"");
}

#[test]
fn placeholders_come_with_their_places() {
    let run = Run::Script("é {inputs.a}\n  '{params.x-1}' # {params.y}\n{checkpoint}".into());
    let found = placeholders(&run, &shell("bash")).unwrap();
    let seen: Vec<_> =
        found.iter().map(|p| (p.space, p.name.as_str(), p.spot.offset, p.spot.line, p.spot.column)).collect();
    assert_eq!(
        seen,
        [(Space::Inputs, "a", 3, 1, 3), (Space::Params, "x-1", 17, 2, 4), (Space::Checkpoint, "", 44, 3, 1)]
    );
    let run = Run::Exec(vec!["a".into(), "b {outputs.o}".into()]);
    let found = placeholders(&run, &[]).unwrap();
    assert_eq!((found[0].spot.word, found[0].spot.offset, found[0].length), (1, 2, 11));
}

#[test]
fn the_script_of_a_shell_in_a_list_is_a_script() {
    let values = Values {
        params: BTreeMap::from([("x".to_owned(), "x; touch pwned".to_owned())]),
        ..Values::default()
    };
    for options in [
        &["sh", "-c"][..],
        &["/bin/bash", "-ec"],
        &["env", "bash", "-o", "pipefail", "-c"],
        &["dash", "-c", "-o", "errexit"],
    ] {
        let list = |script: &str| {
            let words = options.iter().copied().chain([script, "name", "{params.x}"]);
            Run::Exec(words.map(str::to_owned).collect())
        };
        let Run::Exec(words) = expand(&list("echo {params.x}"), &[], &values).unwrap() else { panic!() };
        let end = &words[options.len()..];
        assert_eq!(end, ["echo 'x; touch pwned'", "name", "x; touch pwned"], "{options:?}");
        let refused = placeholders(&list("echo `echo {params.x}`"), &[]).unwrap_err();
        assert_eq!((refused.spot.word, refused.spot.column), (options.len(), 12), "{options:?}");
    }
}

#[test]
fn a_list_takes_values_as_they_are() {
    let values = Values {
        params: BTreeMap::from([("x".to_owned(), "a 'b' {params.x} $(c)".to_owned())]),
        ..Values::default()
    };
    let run =
        Run::Exec(["echo", "--x={params.x}", "\"{params.x}\"", "{{params.x}}"].map(String::from).to_vec());
    let x = &values.params["x"];
    let wanted = vec!["echo".to_owned(), format!("--x={x}"), format!("\"{x}\""), "{params.x}".to_owned()];
    assert_eq!(expand(&run, &[], &values).unwrap(), Run::Exec(wanted));
    let unknown = expand(&Run::Exec(vec!["{inputs.z}".into()]), &[], &values).unwrap_err();
    assert_eq!(unknown.to_string(), "`{inputs.z}` names nothing that the stage has");
    let nul = Values { checkpoint: "\0".into(), ..Values::default() };
    assert!(expand(&Run::Script("{checkpoint}".into()), &shell("sh"), &nul).is_err());
}
