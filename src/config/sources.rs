//! Where values come from: the file, the environment, the flags, in rising precedence.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::file::read_file;
use super::foreign::foreign;
use super::nearest::nearest;
use super::row::Setting;
use super::rules;
use super::settings::{Config, SETTINGS};
use super::tables::{TableEntries, TableNotes, Tables};
use super::value::{Kind, Value};

/// What every environment variable of the configuration begins with.
pub(super) const ENV_PREFIX: &str = "LONGWIRE_";

/// What Centrifugo's begin with.
const FOREIGN_ENV_PREFIX: &str = "CENTRIFUGO_";

/// The place a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// The environment variable of this name.
    Env(String),
    /// The flag of this name, such as `--set`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", one_line(path.as_os_str())),
            Origin::Env(name) => write!(f, "environment {}", one_line(OsStr::new(name))),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why a configuration is refused: one line with the place, the key, its value, what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error whose text is `message`, which must be a single line and free of secrets.
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// One setting given by a flag.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The flag: `--set`, `--listen`.
    pub flag: &'static str,
    /// The dotted key.
    pub key: String,
    /// The value in its text form; items of a list are separated by commas.
    pub value: String,
}

/// Everything a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, TOML or JSON.
    pub file: Option<PathBuf>,
    /// The environment; variables that do not begin with `LONGWIRE_` are skipped.
    pub env: Vec<(OsString, OsString)>,
    /// What the flags set.
    pub flags: Vec<Assignment>,
}

/// A valid configuration, and where each value came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Valid but unwise settings, one line each.
    pub warnings: Vec<String>,
    origins: BTreeMap<&'static str, Origin>,
    pub(super) table_notes: TableNotes,
    ignored: Vec<String>,
    /// Whether a source has a word on `client` or `channel`. What it does not say is then as strict as declared.
    names_clients: bool,
}

impl Loaded {
    /// Where the value of `key` came from; of a table in a list, `channel.namespaces[chat].presence`.
    pub fn origin(&self, key: &str) -> &Origin {
        let origin = self.origins.get(key);
        origin
            .or_else(|| self.table_notes.origins.get(key))
            .unwrap_or(&Origin::Default)
    }

    /// Applies one source over what is there.
    fn apply(&mut self, layer: Vec<Given>) -> Result<(), ConfigError> {
        let mut given_by: BTreeMap<&'static str, Origin> = BTreeMap::new();
        for given in layer {
            let (key, origin) = match given {
                Given::NamesClients => {
                    self.names_clients = true;
                    continue;
                }
                Given::Ignored(text) => {
                    self.ignored.push(text);
                    continue;
                }
                Given::Value {
                    setting,
                    value,
                    origin,
                } => {
                    let refuse = |problem| {
                        let shown = setting.shown(&value);
                        refused(&origin, setting.key, setting.kind, &shown, problem)
                    };
                    setting.set(&mut self.config, &value).map_err(refuse)?;
                    (setting.key, origin)
                }
                Given::Tables {
                    tables,
                    given,
                    origin,
                } => {
                    tables.apply(&mut self.config, &given, &mut self.table_notes)?;
                    (tables.key(), origin)
                }
            };
            self.names_clients |= key.starts_with("client.") || key.starts_with("channel.");
            if let Some(first) = given_by.insert(key, origin.clone()) {
                return Err(ConfigError(format!(
                    "{origin}: {key} is set twice, first by {first}; remove one of them"
                )));
            }
        }
        self.origins.append(&mut given_by);
        Ok(())
    }
}

/// Reads, merges and checks a configuration: defaults < file < environment < flags.
///
/// # Errors
/// The first problem found: a file that cannot be read or is neither TOML nor, by its name, JSON, an unknown key or `LONGWIRE_` variable,
/// a value of the wrong type or out of range, a key set twice, settings that contradict each other, or a listen
/// address that is not loopback without `api_keys` and without `insecure = true`.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded {
        config: Config::declared(),
        ..Loaded::default()
    };
    if let Some(path) = &sources.file {
        loaded.apply(read_file(path)?)?;
    }
    loaded.apply(read_env(&sources.env)?)?;
    loaded.apply(read_flags(&sources.flags)?)?;
    if !loaded.names_clients {
        // Sockets handed over by a supervisor may be anywhere.
        let is_handed_over = sources.env.iter().any(|(name, _)| name == "LISTEN_FDS");
        loaded.config.open_for_development(!is_handed_over);
        let Loaded {
            config, origins, ..
        } = &mut loaded;
        config.open_carriers(|key| origins.contains_key(key));
    }
    rules::check(&loaded)?;
    loaded.warnings = rules::warnings(&loaded);
    loaded.warnings.append(&mut loaded.ignored);
    loaded.warnings.append(&mut loaded.table_notes.ignored);
    Ok(loaded)
}

/// What one source gives.
pub(super) enum Given {
    /// A value for a setting.
    Value {
        setting: &'static Setting,
        value: Value,
        origin: Origin,
    },
    /// All tables of a list, each with its place.
    Tables {
        tables: Tables,
        given: Vec<(TableEntries, Origin)>,
        origin: Origin,
    },
    /// A section `client` or `channel`, which may be empty.
    NamesClients,
    /// Nothing, and what to say of it.
    Ignored(String),
}

impl Given {
    fn from_text(
        setting: &'static Setting,
        text: &str,
        origin: Origin,
    ) -> Result<Self, ConfigError> {
        match setting.kind.parse(text) {
            Ok(value) => Ok(Self::Value {
                setting,
                value,
                origin,
            }),
            Err(problem) => {
                let shown = setting.shown(&Value::Text(text.to_owned()));
                Err(refused(&origin, setting.key, setting.kind, &shown, problem))
            }
        }
    }
}

/// The error for a value that its setting does not take; `shown` must not contain a secret.
pub(super) fn refused(
    origin: &Origin,
    key: &str,
    kind: Kind,
    shown: &str,
    problem: String,
) -> ConfigError {
    let shown = shortened(shown);
    let takes = kind.expects();
    ConfigError(format!(
        "{origin}: {key} = {shown}: {problem}; takes {takes}"
    ))
}

/// Keeps a line readable when somebody gives a long value.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

/// Text from outside, with line feeds and other control characters escaped.
pub(super) fn one_line(text: &OsStr) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.to_string_lossy().chars().map(escape).collect()
}

fn read_env(env: &[(OsString, OsString)]) -> Result<Vec<Given>, ConfigError> {
    let mut layer = Vec::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        if name.starts_with(ENV_PREFIX) {
            layer.extend(read_variable(&name, value)?);
        } else if name.starts_with(FOREIGN_ENV_PREFIX) {
            let name = one_line(OsStr::new(name.as_ref()));
            layer.push(Given::Ignored(format!(
                "environment {name}: ignored: settings begin with {ENV_PREFIX} here, and have two underscores for a dot"
            )));
        }
    }
    Ok(layer)
}

fn read_variable(name: &str, value: &OsStr) -> Result<Option<Given>, ConfigError> {
    let origin = Origin::Env(name.to_owned());
    let Some(setting) = SETTINGS.iter().find(|setting| setting.env_name() == name) else {
        if is_service_link(name) {
            return Ok(None);
        }
        return Err(unknown_variable(&origin, name));
    };
    let text = value.to_str().ok_or_else(|| {
        let shown = setting.shown(&Value::Text(value.to_string_lossy().into_owned()));
        refused(
            &origin,
            setting.key,
            setting.kind,
            &shown,
            "not UTF-8".to_owned(),
        )
    })?;
    Given::from_text(setting, text, origin).map(Some)
}

/// Kubernetes and Docker give every container variables named after the services beside it. A service called
/// `longwire` must not keep the server from starting: LONGWIRE_SERVICE_HOST, LONGWIRE_PORT_8000_TCP_ADDR and so on.
fn is_service_link(name: &str) -> bool {
    let numbered_port = name.split("_PORT_").skip(1).any(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && (rest.contains("_TCP") || rest.contains("_UDP"))
    });
    !name.contains("__")
        && (name.ends_with("_PORT")
            || name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || numbered_port)
}

fn read_flags(flags: &[Assignment]) -> Result<Vec<Given>, ConfigError> {
    let given = |assignment: &Assignment| {
        let origin = Origin::Flag(assignment.flag);
        match Setting::find(&assignment.key) {
            Some(setting) => Given::from_text(setting, &assignment.value, origin),
            None => foreign(&one_line(OsStr::new(&assignment.key)), None, origin),
        }
    };
    flags.iter().map(given).collect()
}

pub(super) fn unknown_key(origin: &Origin, key: &str) -> ConfigError {
    let cure = match nearest(key) {
        Some(setting) => format!("did you mean {}?", setting.key),
        None => "longwire --help lists all settings".to_owned(),
    };
    ConfigError(format!(
        "{origin}: unknown setting {}; {cure}",
        shortened(key)
    ))
}

fn unknown_variable(origin: &Origin, name: &str) -> ConfigError {
    let key = name.strip_prefix(ENV_PREFIX).unwrap_or(name);
    let cure = match nearest(&key.replace("__", ".").to_lowercase()) {
        Some(setting) => format!("did you mean {}?", setting.env_name()),
        None => "unset it, or see longwire --help for all settings".to_owned(),
    };
    ConfigError(format!("{origin}: unknown setting; {cure}"))
}
