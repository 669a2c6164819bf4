//! The promises of the architecture page (`src/lib.rs`), held against the source: who may use whom,
//! who may name a socket, what may panic, what lies where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The header of the table in `src/lib.rs` from which the directions are read.
const ROOMS_HEADER: &str = "//! | Room | May use | What it is |";

/// Words that only some rooms may say: the word, the rooms, and why.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("socket2", &["net"], "sockets belong to src/net"),
    (
        "rustix::net",
        &["net", "loadgen"],
        "sockets belong to src/net",
    ),
    ("monoio::net", &["net"], "sockets belong to src/net"),
    (
        "TcpStream",
        &["loadgen", "net"],
        "sockets belong to src/net",
    ),
    ("TcpListener", &["loadgen"], "sockets belong to src/net"),
    ("UdpSocket", &[], "sockets belong to src/net"),
    (
        "monoio",
        &["net", "shard", "loadgen"],
        "only a shard runs tasks",
    ),
    ("tokio", &["hooks", "net"], "shards are free of it"),
    ("Mutex", &["loadgen"], "shards share by message"),
    ("RwLock", &[], "shards share by message"),
    (
        "Instant",
        &["clock", "server", "shard", "loadgen"],
        "time comes in as a number",
    ),
    ("SystemTime", &["clock"], "the wall clock jumps"),
];

/// Rooms that handle what comes from the network: nothing there may panic.
const PANIC_FREE: &[&str] = &["proto", "hub", "shard", "endpoints", "net", "auth", "hooks"];

const PANICS: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    "panic!(",
    "todo!(",
    "unimplemented!(",
    "unreachable!(",
];

/// Panics that stay: the file, a part of the line, and why nothing from outside can reach it.
const PANICS_ALLOWED: &[(&str, &str, &str)] = &[(
    "src/hub/slab.rs",
    "the list of vacant places holds vacant places only",
    "the list is private to the table and written in two functions",
)];

/// What a visitor sees in the top folder, besides what git ignores.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "benches",
    "loadgen",
    "src",
    "tests",
    "tuning",
];

#[test]
fn rooms_use_only_what_the_page_allows() {
    let allowed = rooms();
    let mut wrong = Vec::new();
    for source in sources() {
        let allowed = allowed.get(&source.room);
        for (line, used) in source.rooms_used() {
            if !allowed.is_some_and(|allowed| allowed.contains(&used)) {
                let (path, room) = (&source.path, &source.room);
                wrong.push(format!("{path}:{line}: {room} may not use {used}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_page_knows_every_room_and_no_other() {
    let in_table: BTreeSet<String> = rooms().into_keys().collect();
    let in_source: BTreeSet<String> = sources().into_iter().map(|source| source.room).collect();
    assert_eq!(in_table, in_source);
}

#[test]
fn only_some_rooms_say_some_words() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, rooms, reason) in RESERVED {
            if rooms.contains(&source.room.as_str()) {
                continue;
            }
            for line in source.lines_with_word(word) {
                wrong.push(format!("{}:{line}: {word}: {reason}", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_unsafe_says_why_it_is_safe() {
    let mut wrong = Vec::new();
    for source in sources() {
        for line in source.lines_with_word("unsafe") {
            if !source.comment_above(line).contains("SAFETY:") {
                wrong.push(format!("{}:{line}: no // SAFETY: above it", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_the_network_reaches_can_panic() {
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources() {
        if !PANIC_FREE.contains(&source.room.as_str()) {
            continue;
        }
        for (line, text) in source.lines() {
            if !PANICS.iter().any(|panic| text.contains(panic)) {
                continue;
            }
            match PANICS_ALLOWED
                .iter()
                .position(|(path, part, _)| source.path == *path && text.contains(part))
            {
                Some(allowed) => drop(needed.insert(allowed)),
                None => wrong.push(format!("{}:{line}: {}", source.path, text.trim())),
            }
        }
    }
    assert_none(&wrong);
    assert_eq!(
        needed.len(),
        PANICS_ALLOWED.len(),
        "an exception is not needed any more"
    );
}

#[test]
fn the_top_folder_holds_what_was_agreed() {
    let ignored = read(Path::new(".gitignore"));
    let is_ignored = |name: &String| {
        let name = name.as_str();
        ignored.lines().any(|line| line.trim_matches('/') == name)
    };
    let entries: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !is_ignored(name))
        .collect();
    let agreed = TOP_LEVEL.iter().map(|name| name.to_string()).collect();
    assert_eq!(entries, agreed);
}

#[test]
fn the_page_names_only_what_exists() {
    let code: String = sources().into_iter().map(|source| source.code).collect();
    let page = read(Path::new("src/lib.rs"));
    let mut wrong = Vec::new();
    for name in backticked(&page) {
        let is_path = name.contains('/') && !name.contains([' ', '{', '<', '`']);
        if is_path && !name.starts_with('/') && !root().join(name).exists() {
            wrong.push(format!("no file {name}"));
        }
        let function = name
            .rsplit_once("::")
            .map(|(_, last)| last.trim_end_matches("()"));
        if let Some(function) = function.filter(|last| last.starts_with(|c: char| c.is_lowercase()))
            && !code.contains(&format!("fn {function}"))
        {
            wrong.push(format!("no function {name}"));
        }
    }
    assert_none(&wrong);
}

/// A source file of the server or of the load generator.
struct Source {
    path: String,
    room: String,
    text: String,
    /// The text without comments and tests, line by line the same.
    code: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = read(path);
        Self {
            path: path.display().to_string(),
            room: room_of(path),
            code: without_comments_and_tests(&text),
            text,
        }
    }

    /// Lines of code, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let has_word = |text: &str| {
            text.match_indices(word).any(|(at, _)| {
                let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
            })
        };
        self.lines()
            .filter(|(_, text)| has_word(text))
            .map(|(line, _)| line)
            .collect()
    }

    fn comment_above(&self, line: usize) -> String {
        let above: Vec<&str> = self.text.lines().take(line - 1).collect();
        let is_comment = |text: &&&str| text.trim_start().starts_with("//");
        above.iter().rev().take_while(is_comment).copied().collect()
    }

    /// Rooms of the server that the file names, with the line.
    fn rooms_used(&self) -> Vec<(usize, String)> {
        let root = match self.room.as_str() {
            "main" | "loadgen" => "longwire::",
            _ => "crate::",
        };
        let named = self.code.match_indices(root).flat_map(|(at, _)| {
            let line = self.code[..at].lines().count().max(1);
            names_after(&self.code[at + root.len()..])
                .into_iter()
                .map(move |name| (line, name))
        });
        let climbed = self.lines_above_the_room();
        named
            .filter(|(_, name)| *name != self.room)
            .chain(climbed)
            .collect()
    }

    /// `super::` that climbs out of the room reaches any other.
    fn lines_above_the_room(&self) -> Vec<(usize, String)> {
        let path = self.path.trim_end_matches("/mod.rs");
        let climb = "super::".repeat(path.matches('/').count());
        let is_server = self.path.starts_with("src/");
        self.lines()
            .filter(|(_, text)| is_server && text.contains(&climb))
            .map(|(line, _)| (line, format!("what {climb} leads to")))
            .collect()
    }
}

/// The rooms named right after `crate::`: one, or each of a group in braces.
fn names_after(code: &str) -> Vec<String> {
    let Some(group) = code.strip_prefix('{') else {
        return Vec::from([name_at(code)]);
    };
    let mut depth = 0;
    let mut names = Vec::from([name_at(group)]);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name_at(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name_at(code: &str) -> String {
    code.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Lines are kept, so that they can be counted.
fn without_comments_and_tests(text: &str) -> String {
    let mut code = String::new();
    let mut test = Test::None;
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_code = matches!(test, Test::None);
        test = match test {
            Test::None if line.trim() == "#[cfg(test)]" => Test::Begins,
            Test::Begins if line.ends_with(';') => Test::None,
            Test::Begins => Test::UntilLine(format!("{indent}}}")),
            Test::UntilLine(end) if end == line => Test::None,
            test => test,
        };
        if is_code && !line.trim_start().starts_with("//") {
            code += line.split(" // ").next().unwrap_or(line);
        }
        code.push('\n');
    }
    code
}

/// Where in an item that only tests compile a line is.
enum Test {
    None,
    Begins,
    UntilLine(String),
}

/// Each room and the rooms it may use, from the table in `src/lib.rs`.
fn rooms() -> BTreeMap<String, BTreeSet<String>> {
    let page = read(Path::new("src/lib.rs"));
    let rows = page
        .lines()
        .skip_while(|line| *line != ROOMS_HEADER)
        .skip(2);
    let rooms: BTreeMap<_, _> = rows
        .take_while(|line| line.starts_with("//! |"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let names = |cell: &str| backticked(cell).map(str::to_owned).collect::<Vec<_>>();
            (
                names(cells[1]).remove(0),
                names(cells[2]).into_iter().collect(),
            )
        })
        .collect();
    assert!(
        !rooms.is_empty(),
        "the table of rooms is gone from src/lib.rs"
    );
    rooms
}

/// What stands between backticks, outside blocks of code.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines()
        .filter(move |line| {
            let is_fence = line.contains("```");
            in_block ^= is_fence;
            !in_block && !is_fence
        })
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The module below the crate that a file belongs to. `src/lib.rs` only lists them.
fn room_of(path: &Path) -> String {
    let mut parts = path.iter().map(|part| part.to_str().unwrap());
    match parts.next() {
        Some("src") => parts.next().unwrap().trim_end_matches(".rs").to_owned(),
        part => part.unwrap().to_owned(),
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "loadgen/src"] {
        find_rust(Path::new(folder), &mut paths);
    }
    paths.retain(|path| path != Path::new("src/lib.rs") && !is_for_tests(path));
    paths.iter().map(|path| Source::read(path)).collect()
}

/// True for a file that its folder's `mod.rs` declares for tests only.
fn is_for_tests(path: &Path) -> bool {
    let name = path.file_stem().unwrap().display();
    let parent = root().join(path.with_file_name("mod.rs"));
    fs::read_to_string(parent).is_ok_and(|parent| {
        ["", "pub(crate) "]
            .iter()
            .any(|visibility| parent.contains(&format!("#[cfg(test)]\n{visibility}mod {name};")))
    })
}

fn find_rust(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            find_rust(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
