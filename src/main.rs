//! The `longwire` program: allocator, arguments, run.

use std::io::Write;
use std::process::ExitCode;

use longwire::cli::{self, Command, Examination};
use longwire::{doctor, log, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: declared as in mimalloc.h; the allocator above links it. It takes no pointers and may be
// called by any thread at any time.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

fn main() -> ExitCode {
    // Huge pages under the allocator nearly double what an idle connection costs. Refused only by
    // kernels that have none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match cli::parse() {
        Command::Check { report } => print(&report),
        Command::Token { token } => print(&format!("{token}\n")),
        Command::Doctor(examination) => examine(&examination),
        Command::Serve {
            config,
            plan,
            warnings,
            ready_fd,
        } => {
            let _log = log::init(config.log_level, config.log_format);
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            server::run(&config, &plan, ready_fd, || mi_collect(true))
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn examine(asked: &Examination) -> ExitCode {
    let root = doctor::Root::at(&asked.root);
    match doctor::examine(&asked.config, asked.connections, asked.cores, &root) {
        Ok(report) => {
            let is_written = write!(std::io::stdout(), "{report}").is_ok();
            match report.is_ready() && is_written {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("longwire: {error}");
            ExitCode::FAILURE
        }
    }
}
