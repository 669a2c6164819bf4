//! The README's lines with curl, run as they stand there.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Server, wait_until};

/// The lines between the marks, without their prompts.
fn lines() -> Vec<String> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let (_, rest) = readme.split_once("<!-- curl -->").expect("a mark");
    let (block, _) = rest.split_once("<!-- end of curl -->").expect("a mark");
    let lines = block.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// Where curl finds that the README's address is this server.
fn curl_home(server: &Server) -> PathBuf {
    let port = server.addr().port();
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("curl-{port}"));
    std::fs::create_dir_all(&home).expect("a directory");
    let setting =
        format!("connect-to = \"localhost:8000:127.0.0.1:{port}\"\nsilent\nmax-time = 60\n");
    std::fs::write(home.join(".curlrc"), setting).expect("a file");
    home
}

fn spawn(line: &str, home: &PathBuf) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {line}")]);
    let command = command.env("CURL_HOME", home).stdin(Stdio::null());
    command.stdout(Stdio::piped()).spawn().expect("curl")
}

/// Reads until the publication is there.
fn hears_it(child: &mut Child) -> bool {
    let mut output = child.stdout.take().expect("piped");
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&heard);
        if text.contains(r#"{"hello":"world"}"#) {
            return true;
        }
        match output.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
        }
    }
}

#[test]
fn every_line_hears_what_is_published() {
    let lines = lines();
    let (publish, listen): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains(" -d "));
    assert_eq!((publish.len(), listen.len()), (1, 10));
    let server = Server::start(&[]);
    let home = curl_home(&server);
    let publish = || {
        let output = spawn(publish[0], &home).wait_with_output().expect("curl");
        let answer = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(answer.contains("\"offset\":"), "{answer}");
    };
    publish();
    for line in listen {
        let mut child = spawn(line, &home);
        let is_there = |child: &mut Child| child.try_wait().expect("a child").is_some();
        wait_until("it listens, or has its answer", || {
            is_there(&mut child) || server.metrics().sum("longwire_subscriptions") >= 1.0
        });
        publish();
        assert!(hears_it(&mut child), "{line}");
        let _ = child.kill();
        let _ = child.wait();
        wait_until("it is gone", || {
            server.metrics().sum("longwire_subscriptions") == 0.0
        });
    }
    std::fs::remove_dir_all(home).expect("remove the directory");
}
