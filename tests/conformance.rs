//! Keeps `tests/conformance.md` true: every rule names at least one test, and every test it names exists.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

const TABLE: &str = "tests/conformance.md";

/// One row: a rule and the names of its tests, such as `tests/server/http.rs::a_test`.
struct Row {
    line: usize,
    rule: String,
    tests: Vec<String>,
}

fn read(path: &str) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The rows of all tables; heads and rulers are left out.
fn rows(table: &str) -> Vec<Row> {
    let lines = table.lines().enumerate();
    lines
        .filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| Section "))
        .map(|(index, line)| row(index + 1, line))
        .collect()
}

fn row(line: usize, text: &str) -> Row {
    let cells: Vec<_> = text.trim_matches('|').split('|').map(str::trim).collect();
    let [section, _, rule, tests] = cells[..] else {
        panic!("{TABLE}:{line}: not four cells");
    };
    let names = tests.split(',').map(|name| name.trim().trim_matches('`'));
    Row {
        line,
        rule: format!("{section}: {rule}"),
        tests: names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// The functions of a source file that `#[test]` stands before, also within `proptest!`.
fn tests_of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            found.extend(is_test.then(|| name.to_owned()));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
        is_test |= line == "#[test]";
    }
    found
}

#[test]
fn every_rule_has_a_test_and_every_named_test_exists() {
    let rows = rows(&read(TABLE).expect("the tables"));
    assert!(rows.len() > 50, "only {} rows were read", rows.len());
    let mut files: HashMap<String, Result<Vec<String>, String>> = HashMap::new();
    let mut problems = Vec::new();
    for row in &rows {
        if row.tests.is_empty() {
            problems.push(format!("{TABLE}:{}: no test for {}", row.line, row.rule));
        }
        for name in &row.tests {
            if let Err(problem) = check_name(name, &mut files) {
                problems.push(format!("{TABLE}:{}: {problem}", row.line));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn check_name(
    name: &str,
    files: &mut HashMap<String, Result<Vec<String>, String>>,
) -> Result<(), String> {
    let (path, function) = name
        .split_once("::")
        .ok_or_else(|| format!("{name} is no name of a test"))?;
    let function = function.strip_prefix("tests::").unwrap_or(function);
    let tests = files
        .entry(path.to_owned())
        .or_insert_with(|| read(path).map(|source| tests_of(&source)));
    match tests {
        Err(error) => Err(error.clone()),
        Ok(tests) if tests.iter().any(|test| test == function) => Ok(()),
        Ok(_) => Err(format!("no test {function} in {path}")),
    }
}
