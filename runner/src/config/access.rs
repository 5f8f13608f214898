//! Access after the settings are read: password hashes, generated passwords, random keys.
//!
//! The only part of this room that writes: files of the data directory, readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use sha2::{Digest, Sha256};

use super::{Credential, Settings, UserSettings};
use crate::access::{ApiToken, User, UserRole};
use crate::text::hex;

/// Holds the generated password of the user `admin`, one line.
pub const PASSWORD_FILE: &str = "admin-password";

/// Holds the generated signing key, 64 hexadecimal digits.
pub const KEY_FILE: &str = "server.key";

/// Bytes; a shorter key can be guessed offline from one signed cookie.
const SHORTEST_KEY: usize = 32;

/// Keys that appear in documentation.
const SAMPLE_KEYS: [&str; 3] = ["your-secret-key", "changeme", "secret"];

/// Users, and the keys that sign and seal.
pub struct Access {
    /// Whether a login is required; without it every client that reaches the address is an admin.
    pub login: bool,
    /// Who may log in.
    pub users: Vec<User>,
    /// With what programs call the API.
    pub tokens: Vec<ApiToken>,
    /// Signs sessions and form tokens.
    pub key: [u8; 32],
    /// The key that seals what is kept in the broker, if there is one.
    pub sealing: Option<SealingKey>,
    /// What an operator should know about this, for the log; never a secret.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.users.iter().map(|u| u.name.as_str()).collect();
        f.debug_struct("Access")
            .field("login", &self.login)
            .field("users", &names)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// For a process that serves no dashboard: it requires a login, and there are no users.
    #[must_use]
    pub fn without_users() -> Self {
        Self {
            login: true,
            users: Vec::new(),
            tokens: Vec::new(),
            key: [0; 32],
            sealing: None,
            notes: Vec::new(),
        }
    }
}

/// The key that seals what this program keeps in its broker for itself.
pub struct SealingKey {
    /// The key that also signs sessions.
    pub key: [u8; 32],
    /// Whether it was made by this start: where files do not outlive a process, the next one has another.
    pub new: bool,
}

/// The key that signs sessions and from which sealing keys are derived; `None` if there is none and `make` is false.
///
/// # Errors
///
/// If the file of the key cannot be read or written.
pub fn sealing_key(settings: &Settings, make: bool) -> Result<Option<SealingKey>, AccessError> {
    let configured = settings.key.as_ref().is_some_and(|key| is_strong(key.expose()));
    if !make && !configured && !settings.data_dir.join(KEY_FILE).exists() {
        return Ok(None);
    }
    key(settings, &settings.data_dir, &mut Vec::new()).map(Some)
}

/// Why access cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file of the data directory cannot be read or written.
    #[error("cannot keep {path:?}{}", cure.map_or_else(String::new, |cure| format!(" ({cure})")))]
    File {
        /// Which.
        path: PathBuf,
        /// How to solve it, unless the cause says it.
        cure: Option<&'static str>,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A password cannot be hashed.
    #[error("cannot hash the password of user {name:?}: {reason}")]
    Hash {
        /// Whose.
        name: String,
        /// Why, without the password.
        reason: String,
    },
}

/// Hashes the configured passwords; without users and beyond loopback, makes a password for `admin`.
///
/// Slow on purpose (hashing), so only for a process that serves the dashboard. What is generated stays in
/// `data_dir` and is the same at the next start.
///
/// # Errors
///
/// If `data_dir` cannot be written where that is needed.
pub fn resolve_access(settings: &Settings, data_dir: &Path) -> Result<Access, AccessError> {
    let mut notes = Vec::new();
    let sealing = key(settings, data_dir, &mut notes)?;
    let key = sealing.key;
    let mut users = Vec::with_capacity(settings.auth.users.len());
    for user in &settings.auth.users {
        users.push(resolve(user, &key)?);
    }
    if users.is_empty() && !settings.is_loopback() {
        let path = data_dir.join(PASSWORD_FILE);
        let password = kept(
            &path,
            "name users under auth.users, or make data.dir writable",
            || Ok(base64_url(&random::<18>()?)),
            |text| text.len() >= 8,
        )?;
        users.push(User {
            name: "admin".to_owned(),
            password_hash: hash("admin", &password)?,
            password_mark: User::password_mark(&key, &password),
            role: UserRole::Admin,
        });
        notes.push(format!(
            "{} can be reached from other machines and no users are configured: log in as admin with the password in {}",
            settings.addr,
            path.display()
        ));
    }
    Ok(Access {
        login: !users.is_empty(),
        users,
        tokens: settings.auth.tokens.clone(),
        key,
        sealing: Some(sealing),
        notes,
    })
}

fn resolve(user: &UserSettings, key: &[u8; 32]) -> Result<User, AccessError> {
    let (Credential::Hash(written) | Credential::Password(written)) = &user.credential;
    let password_hash = match &user.credential {
        Credential::Hash(hash) => hash.expose().to_owned(),
        Credential::Password(password) => hash(&user.name, password.expose())?,
    };
    Ok(User {
        name: user.name.clone(),
        password_hash,
        password_mark: User::password_mark(key, written.expose()),
        role: user.role,
    })
}

fn hash(name: &str, password: &str) -> Result<String, AccessError> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|h| h.to_string()).map_err(|e| AccessError::Hash {
        name: name.to_owned(),
        reason: e.to_string(),
    })
}

fn key(settings: &Settings, data_dir: &Path, notes: &mut Vec<String>) -> Result<SealingKey, AccessError> {
    if let Some(configured) = &settings.key {
        if is_strong(configured.expose()) {
            let key = Sha256::digest(configured.expose().as_bytes()).into();
            return Ok(SealingKey { key, new: false });
        }
        notes.push(format!(
            "server.key is a sample or too weak to sign sessions (at least {SHORTEST_KEY} random bytes): \
             a random one in {} is used instead, so sessions hold on this machine only",
            data_dir.join(KEY_FILE).display()
        ));
    }
    let path = data_dir.join(KEY_FILE);
    let new = !path.exists();
    let cure = "set server.key (or RUNNER_SERVER_KEY), or make data.dir writable";
    let text = kept(&path, cure, || Ok(hex(&random::<32>()?)), |text| text.len() == 64)?;
    let key = Sha256::digest(text.as_bytes()).into();
    Ok(SealingKey { key, new })
}

/// Long enough, not from documentation, and not one character repeated.
pub(super) fn is_strong(key: &str) -> bool {
    let mut distinct: Vec<u8> = key.bytes().collect();
    distinct.sort_unstable();
    distinct.dedup();
    key.len() >= SHORTEST_KEY && distinct.len() >= 8 && !SAMPLE_KEYS.contains(&key)
}

/// The text of the file, which is created if it is missing or damaged.
fn kept(
    path: &Path,
    cure: &'static str,
    make: impl Fn() -> io::Result<String>,
    good: impl Fn(&str) -> bool,
) -> Result<String, AccessError> {
    let result = read(path, &good).and_then(|found| match found {
        Some(text) => Ok(text),
        None => {
            create(path, &make()?)?;
            // Another process may have been first; both use the file that exists now.
            read(path, &good)?.ok_or_else(|| io::Error::other("the file is damaged; remove it"))
        }
    });
    result.map_err(|source| AccessError::File {
        path: path.to_owned(),
        // A damaged file has no error number, and a hint of its own.
        cure: source.raw_os_error().map(|_| cure),
        source,
    })
}

fn read(path: &Path, good: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    /// Bytes; what we write has under a hundred.
    const LONGEST: u64 = 4096;
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let text = text.trim().to_owned();
    if good(&text) {
        Ok(Some(text))
    } else {
        Err(io::Error::other("the file is damaged; remove it"))
    }
}

/// Creates the file atomically, and never replaces that of another process.
fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&partial, path);
    fs::remove_file(&partial)?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Environment;
    use argon2::password_hash::PasswordVerifier;
    use argon2::password_hash::phc::PasswordHash;
    use std::os::unix::fs::PermissionsExt;

    fn access(text: &str, dir: &Path) -> Access {
        let settings = Settings::parse("c", text, &Environment::default()).unwrap();
        resolve_access(&settings, dir).unwrap()
    }

    fn fits(user: &User, password: &str) -> bool {
        let hash = PasswordHash::new(&user.password_hash).unwrap();
        Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    }

    #[test]
    fn loopback_needs_no_login_and_any_other_address_a_generated_password() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let open = access("", &data);
        assert!(!open.login && open.users.is_empty() && open.notes.is_empty());
        let first = access("server: {addr: \":8080\"}", &data);
        let again = access("server: {addr: \":8080\"}", &data);
        let file = data.join(PASSWORD_FILE);
        let password = fs::read_to_string(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(password.trim().len() >= 20);
        assert!(first.login && fits(&first.users[0], password.trim()) && fits(&again.users[0], password.trim()));
        assert!(first.notes[0].contains(PASSWORD_FILE) && !first.notes[0].contains(password.trim()));
    }

    #[test]
    fn configured_users_log_in_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let access = access("auth: {users: [{name: ann, password: pw, role: operator}]}", dir.path());
        assert!(access.login && fits(&access.users[0], "pw"));
        assert_eq!(access.users[0].role, UserRole::Operator);
        // Sessions contain the mark: it must survive a restart and differ for another password.
        let mark_of = |auth: &str| self::access(auth, dir.path()).users[0].password_mark.clone();
        let same = mark_of("auth: {users: [{name: ann, password: pw, role: viewer}]}");
        let other = mark_of("auth: {users: [{name: ann, password: pw2, role: operator}]}");
        assert_eq!((access.users[0].password_mark == same, same == other), (true, false));
        assert!(!dir.path().join(PASSWORD_FILE).exists());
    }

    #[test]
    fn a_weak_key_is_replaced_and_a_strong_one_used() {
        let dir = tempfile::tempdir().unwrap();
        let weak = access("server: {key: your-secret-key}", dir.path());
        let again = access("", dir.path());
        assert_eq!(weak.key, again.key);
        assert_eq!((weak.notes.len(), again.notes.len()), (1, 0));
        let strong = "server: {key: 0123456789abcdef0123456789abcdef}";
        let (a, b) = (
            access(strong, dir.path()),
            access(strong, tempfile::tempdir().unwrap().path()),
        );
        assert_eq!(a.key, b.key);
        assert_ne!(a.key, weak.key);
        assert!(a.notes.is_empty());
    }

    #[test]
    fn what_seals_is_what_signs_and_a_command_makes_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("data: {{dir: {:?}}}", dir.path());
        let settings = Settings::parse("c", &text, &Environment::default()).unwrap();
        assert!(sealing_key(&settings, false).unwrap().is_none());
        assert!(!dir.path().join(KEY_FILE).exists());
        let made = sealing_key(&settings, true).unwrap().unwrap();
        let found = sealing_key(&settings, false).unwrap().unwrap();
        assert_eq!((made.new, found.new, made.key), (true, false, found.key));
        assert_eq!(resolve_access(&settings, dir.path()).unwrap().key, made.key);
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "short").unwrap();
        let settings = Settings::parse("c", "", &Environment::default()).unwrap();
        let error = resolve_access(&settings, dir.path()).unwrap_err();
        assert!(!error.to_string().contains("writable"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(KEY_FILE)).unwrap(), "short");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_with_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a-file");
        fs::write(&data, "").unwrap();
        let fails = |text: &str| {
            let settings = Settings::parse("c", text, &Environment::default()).unwrap();
            resolve_access(&settings, &data).unwrap_err().to_string()
        };
        let of_key = fails("");
        assert!(
            of_key.contains(KEY_FILE) && of_key.contains("set server.key"),
            "{of_key}"
        );
        let with_key = "server: {addr: \":8080\", key: 0123456789abcdef0123456789abcdef}";
        let of_password = fails(with_key);
        assert!(
            of_password.contains(PASSWORD_FILE) && of_password.contains("auth.users"),
            "{of_password}"
        );
    }
}
