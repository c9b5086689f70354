//! Holds the code to the shape that docs/architecture.md draws.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms of `server/src`, from the ground up. A room may import from those above it in this
/// list, and not from one that stands in the same row.
const ORDER: &[&[&str]] = &[
    &["parts", "error"],
    &["address", "id"],
    &["config", "drain"],
    &["metrics"],
    &["throttle"],
    &["admission", "mail", "driver"],
    &["protocol", "adopt"],
    &["table"],
    &["hub", "http", "context"],
    &["upgrade"],
    &["handler"],
    &["handle", "listen"],
    &["worker", "signals"],
    &["app"],
    &["monitor", "sim"],
];

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The room a file is in: the first part of its path, without an extension.
fn room(file: &Path) -> String {
    let inside = file.strip_prefix(server()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn row(room: &str) -> usize {
    let row = ORDER.iter().position(|row| row.contains(&room));
    row.unwrap_or_else(|| panic!("`{room}` has no place: add it to ORDER and to the docs"))
}

/// What a source imports from its own crate: the names after `crate::`, also in `use crate::{..}`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in text.split("crate::").skip(1) {
        let name_of = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
        };
        match piece.strip_prefix('{') {
            None => found.push(name_of(piece)),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    if start && !c.is_whitespace() {
                        found.push(name_of(&list[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn rooms_import_only_from_the_rooms_below_them() {
    let mut checked = 0;
    for file in sources(&server()) {
        let own = room(&file);
        if own == "lib" {
            continue;
        }
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            checked += 1;
            assert!(
                import == own || row(&import) < row(&own),
                "{} imports `{import}`, which is not below `{own}`",
                file.display()
            );
        }
    }
    assert!(checked > 50, "only {checked} imports were found: can this test still read them?");
}

#[test]
fn imports_are_read_in_both_forms() {
    let text = "use crate::{a, b::{C, d}, e_f::G};\nuse crate::h::I; fn x() { crate::j::k() }";
    assert_eq!(imports(text), ["a", "b", "e_f", "h", "j"]);
}

#[test]
fn no_file_is_longer_than_700_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for package in ["core/src", "server/src", "server/tests", "examples/src", "perf/src", "benches"]
    {
        for file in sources(&root.join(package)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 700, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_where_the_list_says_and_nowhere_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let list = fs::read_to_string(root.join("docs/unsafe.md")).unwrap();
    let mut blocks = 0;
    for file in [sources(&root.join("core/src")), sources(&server())].concat() {
        let text = fs::read_to_string(&file).unwrap();
        let count = text.matches("unsafe {").count();
        if count == 0 {
            continue;
        }
        blocks += count;
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        assert!(
            list.contains(&format!("| `{name}` | {count} |")),
            "docs/unsafe.md does not say that `{name}` has {count} unsafe blocks"
        );
    }
    assert!(blocks > 0, "can this test still find them?");
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_on_hostile_input_names_tests_and_limits_that_exist_and_leaves_no_test_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tests = root.join("server/tests");
    let page = fs::read_to_string(root.join("docs/hostile-input.md")).unwrap();
    let config = ["server/src/config.rs", "core/src/http/scan.rs"]
        .map(|file| fs::read_to_string(root.join(file)).unwrap())
        .concat();
    let metrics = fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let mut named = 0;
    // Other tables are below.
    let table = page.split("\n## ").next().unwrap();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let [_, _, _, limits, counts, names] = cells[..] else { panic!("not six cells: {row}") };
        for count in quoted(counts) {
            assert!(metrics.contains(&format!("| `{count}` |")), "there is no metric `{count}`");
        }
        assert!(!counts.trim().is_empty(), "nothing is counted: {row}");
        for limit in quoted(limits) {
            let field = limit.rsplit('.').next().unwrap();
            assert!(config.contains(&format!("    pub {field}: ")), "there is no limit `{limit}`");
        }
        assert!(quoted(names).count() > 0, "no test: {row}");
        for name in quoted(names) {
            let (file, function) = name.split_once("::").unwrap();
            let is_from_root = file.starts_with("core/") || file.starts_with("server/");
            let text = fs::read_to_string(if is_from_root { root } else { &tests }.join(file));
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            let exists = ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")));
            assert!(exists, "there is no test `{name}`");
            named += 1;
        }
    }
    assert!(named > 50, "only {named} were found: can this test still read them?");
    let mut files = sources(&tests.join("hostile"));
    files.extend(
        ["hostile_costs.rs", "hostile_deflate.rs", "descriptors.rs"].map(|file| tests.join(file)),
    );
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&tests).unwrap().display();
        for test in text.split("#[test]\nfn ").skip(1) {
            let name = format!("`{path}::{}`", test.split('(').next().unwrap());
            assert!(page.contains(&name), "docs/hostile-input.md does not name {name}");
        }
    }
}
