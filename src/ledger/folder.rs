//! A folder in which a file is either as it was or as it was to become, whatever happens on the way: power may fail between
//! any two bytes. One process at a time has it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What it is locked by.
const LOCK: &str = "lock";
/// How the name of what is not finished yet ends.
const UNFINISHED: &str = ".unfinished";

/// A folder and the lock on it, which ends with it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    /// Said aloud, because a process that is being started may have a copy of the file for a moment.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// Why a folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{0} is in use by another proxymanager: stop that one, or give each a folder of its own")]
    Taken(PathBuf),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl Folder {
    /// Makes the folder, readable to its owner alone, if it is not there, and locks it. What was being written when an
    /// earlier process ended is thrown away.
    ///
    /// # Errors
    /// When another process has it, or it cannot be used.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError::Io {
            path: path.to_owned(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::Taken(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let folder = Folder {
            path: path.to_owned(),
            lock,
        };
        folder.tidy(path).map_err(failed)?;
        Ok(folder)
    }

    fn tidy(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.tidy(&entry.path())?;
            } else if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What a file holds; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.path.join(name)) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the files in a folder within this one, with that folder's name in front.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, within: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path.join(within)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(format!("{within}/{}", entry?.file_name().to_string_lossy()));
        let mut names = entries.map(name).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Puts these bytes in the place of what a file held. Afterwards they survive a loss of power; when it fails, the file
    /// is as it was.
    ///
    /// # Errors
    /// When they could not be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.path.join(name);
        let within = target.parent().unwrap_or(&self.path);
        if !within.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(within)?;
            File::open(&self.path)?.sync_all()?;
        }
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        let mut options = File::options();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &target)?;
        File::open(within)?.sync_all()
    }

    /// Adds bytes at the end of a file. A loss of power may leave a part of them.
    ///
    /// # Errors
    /// When they could not be written; then the file is as it was, as far as that can still be had.
    pub fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::options().append(true).open(self.path.join(name))?;
        let before = file.metadata()?.len();
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            // A disk that is full takes the beginning of a line, and the next one would be added to it.
            file.set_len(before)?;
        }
        written
    }
}
