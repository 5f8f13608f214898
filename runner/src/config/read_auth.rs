//! Reads `auth`: who may log in; the tokens of programs are in `read_tokens`. Checks names and forms; `access` does the hashing.

use super::section::Section;
use super::settings::{AuthSettings, Credential, UserSettings};
use super::{Secret, read_tokens};
use crate::access::UserRole;

/// The most users; more need a directory service.
const MAX_USERS: usize = 1000;

const ROLES: [(&str, UserRole); 3] = [
    ("viewer", UserRole::Viewer),
    ("operator", UserRole::Operator),
    ("admin", UserRole::Admin),
];

/// Reads the section.
pub fn read(root: &Section<'_>) -> AuthSettings {
    let section = root.section("auth");
    let mut users: Vec<UserSettings> = Vec::new();
    for user in section.sections("users") {
        let read = one(&user);
        let place = user.place();
        user.finish();
        let Some(read) = read else { continue };
        if users.iter().any(|u| u.name == read.name) {
            let message = format!("user {:?} is defined twice", read.name);
            section.reader().error("CFG_TWICE", &place, message);
        } else if users.len() == MAX_USERS {
            let message = format!("more than {MAX_USERS} users");
            section.reader().error("CFG_RANGE", &place, message);
            break;
        } else {
            users.push(read);
        }
    }
    let tokens = read_tokens::read(&section);
    section.finish();
    AuthSettings { users, tokens }
}

fn one(user: &Section<'_>) -> Option<UserSettings> {
    let name = user.text("name");
    let role = user.choice("role", &ROLES).unwrap_or(UserRole::Viewer);
    let password = user.secret("password").map(|f| f.value);
    let hash = user.secret("password_hash").map(|f| f.value);
    let complain = |message: String, hint: &str| {
        user.reader().error_hint("CFG_AUTH", &user.place(), message, hint);
    };
    let Some(name) = name.map(|f| f.value).filter(|n| !n.trim().is_empty()) else {
        complain(format!("{} is missing", user.path_of("name")), "name: ann");
        return None;
    };
    let credential = match (password, hash) {
        (None, Some(hash)) if is_hash(&hash) => Credential::Hash(hash),
        (None, Some(_)) => {
            let message = format!("password_hash of user {name:?} is not an Argon2 hash");
            complain(message, "it begins with $argon2id$; or write password: ${env:NAME}");
            return None;
        }
        (Some(password), None) if !password.is_empty() => Credential::Password(password),
        _ => {
            let message = format!("user {name:?} needs either password_hash or password");
            complain(message, "password: ${env:NAME} keeps it out of the file");
            return None;
        }
    };
    Some(UserSettings { name, credential, role })
}

fn is_hash(hash: &Secret) -> bool {
    hash.expose().starts_with("$argon2") && argon2::password_hash::phc::PasswordHash::new(hash.expose()).is_ok()
}
