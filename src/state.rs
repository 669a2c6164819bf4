//! The file that a clean stop leaves for the next start: a snapshot of all channels, and of revocations of tokens.
//!
//! It is written last, when nothing is published any more, under another name, and gets its own only
//! when all of it is on the disk. It is taken exactly once: a start reads it, and removes it before
//! anybody can publish, since a channel that went on from it a second time would give its offsets twice.
//! So there is none while a server runs, and none after a crash.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::clock::unix_s;
use crate::hub::{BadSnapshot, Entry, append_entry, begin_snapshot, read_snapshot};

const NAME: &str = "channels.snapshot";
/// While it is written.
const NEW_NAME: &str = "channels.snapshot.new";
/// What of it was not as it was written.
const DAMAGED_NAME: &str = "channels.snapshot.damaged";

/// Where the file is, or will be.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// What a stop left.
#[derive(Debug, Default)]
pub struct Left {
    /// Channels, keys and revocations.
    pub entries: Vec<Entry>,
    /// How long ago it was written, in seconds.
    pub away_s: u32,
    /// How long the file is.
    pub bytes: usize,
    /// What there was to take.
    pub taken: Taken,
    /// Why part of it cannot be had.
    pub damage: String,
}

impl StateDir {
    /// Makes the folder if it is not there, and makes sure that a file can be written in it. What a stop
    /// that did not come to its end wrote is removed.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &str) -> io::Result<Self> {
        let dir = Self { path: path.into() };
        fs::create_dir_all(&dir.path)?;
        File::create(dir.at(NEW_NAME))?;
        fs::remove_file(dir.at(NEW_NAME))?;
        Ok(dir)
    }

    /// Where the file is.
    pub fn file(&self) -> PathBuf {
        self.at(NAME)
    }

    /// Reads what the last stop left, which may be nothing. It stays there.
    pub fn read(&self) -> Left {
        match fs::read(self.file()) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Left::default(),
            Err(error) => Left {
                taken: Taken::Damaged,
                damage: error.to_string(),
                ..Left::default()
            },
        }
    }

    /// Makes sure that nobody takes the file again: removes it, or puts it aside if it is damaged.
    ///
    /// # Errors
    /// What the system says. What was read must not be used then.
    pub fn consume(&self, taken: Taken) -> io::Result<()> {
        match taken {
            Taken::Nothing => return Ok(()),
            Taken::Whole => fs::remove_file(self.file())?,
            Taken::Damaged => fs::rename(self.file(), self.at(DAMAGED_NAME))?,
        }
        sync_dir(&self.path)
    }

    /// Begins to write the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(&self) -> io::Result<StateWriter<'_>> {
        let mut writer = StateWriter {
            dir: self,
            file: File::create(self.at(NEW_NAME))?,
            bytes: 0,
        };
        let mut head = Vec::new();
        begin_snapshot(&mut head);
        let began = Entry::Began { unix_s: now_s() };
        append_entry(&began, &mut head).map_err(|_| ErrorKind::FileTooLarge)?;
        writer.append(&head)?;
        Ok(writer)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// What a start made of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taken {
    /// There was none.
    #[default]
    Nothing,
    /// All of it was read.
    Whole,
    /// Part of it could not be.
    Damaged,
}

impl Left {
    fn spoil(&mut self, bad: BadSnapshot) {
        self.taken = Taken::Damaged;
        self.damage = match bad {
            BadSnapshot::Foreign => "not a snapshot, or of another version",
            BadSnapshot::CutOff => "its end is missing",
            BadSnapshot::Altered | BadSnapshot::TooLarge => "altered since it was written",
        }
        .to_owned();
    }
}

/// The file while it is written.
#[derive(Debug)]
pub struct StateWriter<'a> {
    dir: &'a StateDir,
    file: File,
    bytes: usize,
}

impl StateWriter<'_> {
    /// Appends whole entries.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        self.file.write_all(entries)?;
        self.bytes += entries.len();
        Ok(())
    }

    /// Bytes written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Brings all of it to the disk, and then gives it its name.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(self.dir.at(NEW_NAME), self.dir.file())?;
        sync_dir(&self.dir.path)
    }
}

fn decode(bytes: &[u8]) -> Left {
    let mut left = Left {
        bytes: bytes.len(),
        taken: Taken::Whole,
        ..Left::default()
    };
    let mut began_s = None;
    for entry in read_snapshot(bytes) {
        match entry {
            Ok(Entry::Began { unix_s }) => began_s = Some(unix_s),
            Ok(entry) => left.entries.push(entry),
            Err(bad) => left.spoil(bad),
        }
    }
    match began_s {
        Some(began_s) => {
            let away_s = now_s().saturating_sub(began_s);
            left.away_s = u32::try_from(away_s).unwrap_or(u32::MAX);
        }
        // Nobody knows how old the rest is.
        None => {
            left.entries.clear();
            if left.taken == Taken::Whole {
                left.spoil(BadSnapshot::CutOff);
            }
        }
    }
    left
}

fn now_s() -> u64 {
    u64::try_from(unix_s()).unwrap_or(0)
}

/// A new name, or the end of one, is on the disk when its folder is.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{ChannelState, Epoch, Position};

    fn dir(name: &str) -> StateDir {
        let path =
            std::env::temp_dir().join(format!("longwire-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        StateDir::open(path.to_str().unwrap()).unwrap()
    }

    fn channel(name: &str) -> Entry {
        let epoch = Epoch::from_random(7);
        Entry::Channel(ChannelState {
            name: name.into(),
            position: Position { epoch, offset: 3 },
            remembered_s: 60,
            history_ttl_s: 0,
            publications: Vec::new(),
            version: 0,
            version_epoch: "".into(),
        })
    }

    fn write(dir: &StateDir, entries: &[Entry]) {
        let mut bytes = Vec::new();
        entries
            .iter()
            .for_each(|entry| append_entry(entry, &mut bytes).unwrap());
        let mut writer = dir.create().unwrap();
        writer.append(&bytes).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn what_was_written_is_taken_once() {
        let dir = dir("once");
        assert_eq!(dir.read().taken, Taken::Nothing);
        let entries = [channel("a"), channel("b")];
        write(&dir, &entries);
        let left = dir.read();
        assert_eq!(left.entries, entries);
        assert_eq!(left.taken, Taken::Whole);
        dir.consume(Taken::Whole).unwrap();
        assert_eq!(dir.read().taken, Taken::Nothing);
        assert!(dir.consume(Taken::Whole).is_err(), "somebody else took it");
        fs::remove_dir_all(&dir.path).unwrap();
    }

    #[test]
    fn what_was_not_written_to_its_end_is_not_there() {
        let dir = dir("cut");
        let mut writer = dir.create().unwrap();
        writer.append(b"some").unwrap();
        drop(writer);
        let again = StateDir::open(dir.path.to_str().unwrap()).unwrap();
        assert_eq!(again.read().taken, Taken::Nothing);
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);
        fs::remove_dir_all(&dir.path).unwrap();
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_what_is_whole_of_it_is_had() {
        let dir = dir("damaged");
        write(&dir, &[channel("a"), channel("b")]);
        let mut bytes = fs::read(dir.file()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(dir.file(), &bytes).unwrap();
        let left = dir.read();
        assert_eq!(left.entries, [channel("a")]);
        assert_eq!(left.taken, Taken::Damaged);
        dir.consume(left.taken).unwrap();
        assert!(!dir.file().exists() && dir.at(DAMAGED_NAME).exists());
        fs::write(dir.file(), b"something else").unwrap();
        let left = dir.read();
        assert_eq!(left.damage, "not a snapshot, or of another version");
        assert!(left.entries.is_empty());
        fs::remove_dir_all(&dir.path).unwrap();
    }
}
