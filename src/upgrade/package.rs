//! A zip, checked before anything is done with it: it unpacks to a program that the function's processor and its system
//! can run.

use std::fmt;
use std::io::{Cursor, Read};
use std::path::Path;

use aws_smithy_types::base64;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::FileHeader;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

/// The largest zip that can be uploaded without S3. Source: AWS Lambda developer guide, "Lambda quotas".
const LARGEST: u64 = 50 * 1024 * 1024;
/// All files together, unpacked; from the same page.
const LARGEST_UNPACKED: u64 = 250 * 1024 * 1024;
const BOOTSTRAP: &str = "bootstrap";
/// The glibc of Amazon Linux 2023, which `provided.al2023` is. Source: Amazon Linux 2023 user guide, "glibc".
const GLIBC: (u32, u32) = (2, 34);

/// A zip that can be uploaded.
#[derive(Clone)]
pub struct Package {
    pub zip: Vec<u8>,
    /// As Lambda writes it: SHA-256 of the zip in Base64.
    pub digest: String,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Package({}, {} bytes, {})",
            self.digest,
            self.zip.len(),
            self.architecture
        )
    }
}

/// What is wrong with a zip.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPackage {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("has {0} bytes. Allowed: at most 50 MB, which is what Lambda takes by a direct upload")]
    TooLarge(u64),
    #[error("unpacks to more than 250 MB, which is what Lambda allows")]
    TooLargeUnpacked,
    #[error("is not a zip, or a damaged one: {0}")]
    NoZip(String),
    #[error("has no file `bootstrap` at its top level. Allowed: the zip of a release, which has one")]
    NoBootstrap,
    #[error(
        "has a `bootstrap` that nobody may execute (mode {0:o}). Allowed: mode 755, as `zip` keeps it on Linux and macOS"
    )]
    NotExecutable(u32),
    #[error("has a `bootstrap` that is not a Linux program for x86_64 or arm64: {0}")]
    NoProgram(String),
    #[error(
        "has a `bootstrap` that needs glibc {0}.{1}. Allowed: at most 2.34, which is what the runtime provided.al2023 has"
    )]
    NewerGlibc(u32, u32),
}

/// Reads and checks the zip at `path`.
///
/// # Errors
/// [`BadPackage`], as a phrase that follows the file's name.
pub fn read(path: &Path) -> Result<Package, BadPackage> {
    let unreadable = |error: std::io::Error| BadPackage::Unreadable(error.to_string());
    let size = path.metadata().map_err(unreadable)?.len();
    if size > LARGEST {
        return Err(BadPackage::TooLarge(size));
    }
    let zip = std::fs::read(path).map_err(unreadable)?;
    let architecture = check(&zip)?;
    Ok(Package {
        digest: base64::encode(Sha256::digest(&zip)),
        architecture,
        zip,
    })
}

/// The architecture of the program in a zip.
fn check(zip: &[u8]) -> Result<&'static str, BadPackage> {
    let no_zip = |error: &dyn fmt::Display| BadPackage::NoZip(error.to_string());
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(|error| no_zip(&error))?;
    // What a zip says of itself may be a lie; more than it may be is never read.
    let mut left = LARGEST_UNPACKED;
    let mut bootstrap = None;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(|error| no_zip(&error))?;
        let mut content = Vec::new();
        let name = file.name().map_err(|error| no_zip(&error))?.into_owned();
        // Read to its end, because only then its checksum is compared.
        let read = file.by_ref().take(left + 1).read_to_end(&mut content);
        let read = read.map_err(|error| no_zip(&format!("{name}: {error}")))? as u64;
        left = left.checked_sub(read).ok_or(BadPackage::TooLargeUnpacked)?;
        if name == BOOTSTRAP && file.is_file() {
            bootstrap = Some((file.unix_mode(), content));
        }
    }
    let (mode, program) = bootstrap.ok_or(BadPackage::NoBootstrap)?;
    // A zip made on Windows has no mode, and Lambda then takes its files as not executable.
    let mode = mode.unwrap_or_default() & 0o7777;
    if mode & 0o111 == 0 {
        return Err(BadPackage::NotExecutable(mode));
    }
    let architecture = architecture(&program)?;
    match newest_glibc(&program) {
        Some(needed) if needed > GLIBC => Err(BadPackage::NewerGlibc(needed.0, needed.1)),
        _ => Ok(architecture),
    }
}

fn architecture(program: &[u8]) -> Result<&'static str, BadPackage> {
    let no_program = |what: &dyn fmt::Display| BadPackage::NoProgram(what.to_string());
    let header = FileHeader64::<Endianness>::parse(program).map_err(|error| no_program(&error))?;
    let endian = header.endian().map_err(|error| no_program(&error))?;
    match header.e_machine(endian) {
        elf::EM_X86_64 => Ok("x86_64"),
        elf::EM_AARCH64 => Ok("arm64"),
        other => Err(no_program(&format!("its ELF machine is {other}"))),
    }
}

/// The newest version of glibc that a program cannot do without; none for one that is linked statically or hides it.
fn newest_glibc(program: &[u8]) -> Option<(u32, u32)> {
    let header = FileHeader64::<Endianness>::parse(program).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, program).ok()?;
    let (mut needed, link) = sections.gnu_verneed(endian, program).ok()??;
    let strings = sections.strings(endian, program, link).ok()?;
    let mut newest = None;
    while let Ok(Some((_, mut versions))) = needed.next() {
        while let Ok(Some(version)) = versions.next() {
            // A weak need that is not met is no more than a warning of the dynamic linker.
            let weak = version.vna_flags.get(endian).0 & elf::VER_FLG_WEAK.0 != 0;
            let name = version
                .name(endian, strings)
                .ok()
                .and_then(|name| std::str::from_utf8(name).ok());
            if !weak {
                newest = newest.max(name.and_then(glibc));
            }
        }
    }
    newest
}

/// `GLIBC_2.34` in numbers.
fn glibc(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
