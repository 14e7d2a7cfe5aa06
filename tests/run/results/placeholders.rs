//! What a command is told: no value ever becomes code, and `$` belongs to the shell.

use crate::common::Pipeline;
use crate::helpers::{stage, stages};

/// Values that would do harm if they ever were code.
const HOSTILE: [&str; 16] = [
    "x; touch @ROOT@/pwned",
    "$(touch @ROOT@/pwned)",
    "`touch @ROOT@/pwned`",
    "' ; touch @ROOT@/pwned ; '",
    "\" ; touch @ROOT@/pwned ; \"",
    "\\",
    "a b  c",
    "*",
    "~",
    "-n",
    "${HOME}",
    "!!",
    "{params.other}",
    "new\nline",
    "\ttab'\"\\$`",
    "é 日本 \u{1f980}",
];

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn a_value_is_the_same_text_outside_and_inside_of_quotes_and_never_code() {
    let script = "printf '%s|' {params.v} \"{params.v}\" '{params.v}' pre{params.v}post \"pre {params.v} post\" 'pre {params.v} post' > {outputs.o}\nprintf '%s' \"$(printf '%s' {params.v}; printf '%s' \"|{params.v}\")\" \"|$KILN_PARAM_v\" >> \"{outputs.o}\"";
    for shell in ["bash -eo pipefail", "sh"] {
        let names: Vec<_> = (0..HOSTILE.len()).map(|i| format!("s{i:02}")).collect();
        let all: Vec<_> =
            names.iter().map(|name| (name.as_str(), "shell: @SHELL@\nparams: { v: @V@ }", script)).collect();
        let p = stages(&all);
        let root = p.root().display().to_string();
        let values: Vec<_> = HOSTILE.iter().map(|v| v.replace("@ROOT@", &root)).collect();
        let mut text = std::fs::read_to_string(p.path("kiln.yaml")).unwrap().replace("@SHELL@", shell);
        for value in &values {
            // `$${` stands for `${` in a pipeline file.
            text = text.replacen("@V@", &json(&value.replace("${", "$${")), 1);
        }
        p.write("kiln.yaml", &text);
        p.run();
        for (name, v) in names.iter().zip(&values) {
            let expected = format!("{v}|{v}|{v}|pre{v}post|pre {v} post|pre {v} post|{v}|{v}|{v}");
            assert_eq!(p.out(&format!("p/{name}/o")), expected, "{shell}: {v:?}");
        }
        assert!(!p.path("pwned").exists());
    }
}

#[test]
fn a_list_takes_values_whole_as_words() {
    for value in HOSTILE {
        let p = Pipeline::new();
        let value = value.replace("@ROOT@", &p.root().display().to_string());
        p.write("kiln.yaml", &format!(
            "pipeline: p\nstages:\n  s:\n    kind: command\n    params: {{ v: {} }}\n    run: [python3, -c, 'import sys; open(sys.argv[2], \"w\").write(sys.argv[1])', 'a{{params.v}}b', '{{outputs.o}}']\n    outputs: {{ o: any }}\n",
            json(&value.replace("${", "$${"))
        ));
        p.run();
        assert_eq!(p.out("p/s/o"), format!("a{value}b"));
        assert!(!p.path("pwned").exists());
    }
}

#[test]
fn paths_work_in_a_folder_with_a_space_and_quotes() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("my 'odd' $(project)");
    std::fs::create_dir(&folder).unwrap();
    for sandbox in ["folder", "strict", "off"] {
        let yaml = format!(
            "pipeline: p\nsources: {{ i: {{ path: i.txt, type: any }} }}\nstages:\n  s:\n    kind: command\n    sandbox: {sandbox}\n    inputs: {{ i: i }}\n    outputs: {{ o: any }}\n    run: |\n      cat \"{{inputs.i}}\" {{inputs.i}} '{{inputs.i}}' > \"{{outputs.o}}\"\n      : {sandbox}\n"
        );
        std::fs::write(folder.join("kiln.yaml"), yaml).unwrap();
        std::fs::write(folder.join("i.txt"), "i\n").unwrap();
        let mut kiln = Pipeline::new().kiln(&["run"]);
        kiln.current_dir(&folder).assert().success();
        assert_eq!(
            std::fs::read_to_string(folder.join("artifacts/out/p/s/o")).unwrap(),
            "i\ni\ni\n",
            "{sandbox}"
        );
    }
}

#[test]
fn the_variables_of_the_shell_belong_to_the_shell() {
    let p = stage(
        "env: { GIVEN: \"from env\" }",
        "for f in a b; do echo \"${f}-$f\"; done > {outputs.o}\nx=1; echo ${x:-2} ${y:-2} ${#x} $((x + 1)) >> {outputs.o}\necho \"${NOTE:-unset} ${GIVEN}\" >> {outputs.o}\necho ${BASH_VERSION:+bash} {a,b} ${arr[@]:-} '${f}' >> {outputs.o}",
    );
    let mut kiln = p.kiln(&["run"]);
    kiln.env("NOTE", "$(touch pwned); x").assert().success();
    assert_eq!(p.out("p/s/o"), "a-a\nb-b\n1 2 1 2\nunset from env\nbash a b ${f}\n");
    // Everywhere else the file still takes variables of the caller, as text.
    let p = stage("params: { note: \"${NOTE}\" }", "echo {params.note} > {outputs.o}");
    let mut kiln = p.kiln(&["run"]);
    kiln.env("NOTE", "$(touch pwned); x").assert().success();
    assert_eq!(p.out("p/s/o"), "$(touch pwned); x\n");
    assert!(!p.path("pwned").exists());
}

#[test]
fn where_no_value_is_safe_a_placeholder_is_refused_at_load_with_its_position() {
    let refused = [
        ("", "cat <<EOF > {outputs.o}\n{params.v}\nEOF"),
        ("", "x=`echo {params.v}`"),
        ("", "echo $(( {params.v} + 1 ))"),
        ("", "echo ${x:-{params.v}}"),
        ("", "a[{params.v}]=1"),
        ("", "[[ {params.v} -eq 1 ]]"),
        ("", "echo \\{params.v}"),
        ("", "echo ${params.v}"),
        ("shell: fish", "echo {params.v}"),
        ("shell: python3", "print('{params.v}')"),
        ("", "echo {params.w}"),
        ("", "echo {param.v}"),
    ];
    for (more, script) in refused {
        let p = stage(&format!("params: {{ v: 1 }}\n{more}"), &format!("true\n{script}"));
        let answer = p.ask(&["run"]);
        assert_eq!(answer.code, 3, "{script}: {}", answer.err);
        assert!(
            answer.err.contains("kiln.yaml:") && answer.err.contains("Nothing was run"),
            "{script}: {}",
            answer.err
        );
        assert!(!p.path("artifacts/runs").exists());
    }
}

#[test]
fn unknown_names_of_set_are_errors_and_values_are_taken_as_typed() {
    let p = stage(
        "params: { count: 1, color: x, note: y, list: [1] }",
        "printf '%s|' {params.count} {params.color} {params.note} {params.list} > {outputs.o}",
    );
    for set in [
        "stages.s.cuont=5",
        "stages.s.params.cuont=5",
        "stages.t.count=5",
        "stages.s.inputs.x=y",
        "params.count=5",
        "stages.s.retrys=1",
        "count=5",
        "stages.s.count",
        "stages.s.outputs.oo=any",
    ] {
        let answer = p.ask(&["run", "--set", set]);
        assert_eq!(answer.code, 3, "{set}: {}", answer.err);
        assert!(!p.path("artifacts/runs").exists(), "{set}");
    }
    p.edit("stages:\n", "params: { count: 7 }\nstages:\n");
    assert_eq!(p.ask(&["run", "--set", "params.count=5"]).code, 3, "every stage has its own");
    assert!(p.ask(&["run", "--set", "stages.s.cuont=5"]).err.contains("did you mean `count`?"));
    for (typed, told) in [
        ("#ff8800", "#ff8800"),
        ("a #b", "a #b"),
        ("1e-3", "1e-3"),
        ("3.10", "3.10"),
        ("007", "007"),
        ("yes", "yes"),
        ("", ""),
        ("a: b", "a: b"),
        ("[1, 2", "[1, 2"),
        ("- x", "- x"),
        ("'q'", "'q'"),
        ("\"json\"", "json"),
        ("99999999999999999999", "99999999999999999999"),
        ("a=b", "a=b"),
        (" spaced ", " spaced "),
        ("{params.note}", "{params.note}"),
        ("${HOME}x", "${HOME}x"),
    ] {
        p.ask(&["run", "--set", &format!("stages.s.color={typed}")]).good();
        assert_eq!(p.out("p/s/o"), format!("1|{told}|y|[1]|"), "{typed}");
    }
    p.ask(&["run", "--set", "stages.s.list=[1, {\"a\": 2}]"]).good();
    assert_eq!(p.out("p/s/o"), "1|x|y|[1,{\"a\":2}]|");
}
