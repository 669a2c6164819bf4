//! The settings, printed: the README's table, the table in `--help`, and the effective configuration.

use super::settings::SETTINGS;
use super::sources::Loaded;
use super::tables::Tables;

/// All settings as a Markdown table, as the README has it.
pub fn table_markdown() -> String {
    let mut out = String::from("| Setting | Default | Takes | Meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        out += &format!(
            "| `{}` | `{}` | {} | {} |\n",
            setting.key,
            setting.default_value(),
            setting.kind.expects(),
            setting.doc(),
        );
    }
    out
}

/// All settings as plain text for `--help`, two lines each.
pub fn table_help() -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        out += &format!(
            "  {} = {}  [{}]\n      {}\n",
            setting.key,
            setting.default_value(),
            setting.kind.expects(),
            setting.doc(),
        );
    }
    out
}

impl Loaded {
    /// The effective configuration as TOML, with the place each value came from; secrets are `"***"`.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (current, name) = setting.section_and_name();
            if current != section {
                section = current;
                out += &format!("\n[{section}]\n");
            }
            let value = setting.shown(&setting.get(&self.config));
            out += &format!("{name} = {value}  # {}\n", self.origin(setting.key));
        }
        out + &Tables::all_to_toml(&self.config, &self.table_origins)
    }
}
