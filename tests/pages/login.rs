//! Login: passwords, sessions, roles, and the limit for wrong passwords.

use std::time::Duration;

use runner::web::{Auth, User};

use super::dashboard::{Order, Site, users};
use super::guards::ACTIONS;
use crate::kit::{self, Http};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_login_opens_the_dashboard_and_ends, wrong_passwords_are_slowed_down,
            viewers_look_and_do_not_touch, operators_do_not_delete, a_planted_name_is_worth_nothing,
            a_session_is_valid_wherever_the_key_is_known
    ]
}

async fn site() -> Site {
    Site::start(Order {
        auth: users(),
        full: true,
        ..Order::default()
    })
    .await
}

async fn a_login_opens_the_dashboard_and_ends() {
    let site = site().await;
    let entered = site.log_in("admin").await;
    assert_eq!((entered.status, entered.header("location")), (303, "/queue"));
    let cookies: Vec<&str> = entered
        .headers
        .get_all("set-cookie")
        .iter()
        .filter_map(|c| c.to_str().ok())
        .collect();
    let session = cookies
        .iter()
        .find(|c| c.starts_with("runner_session_"))
        .expect("a session");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/queue", "Max-Age=43200"] {
        assert!(session.contains(part), "{session}");
    }
    let copied = session.split(';').next().unwrap_or_default().to_owned();
    let page = site.http.get("/queue").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Log out"));
    assert_eq!(site.act("/queue/logout", &[]).await.status, 303);
    let replay = Http::new(&site.base);
    let request = replay.request(reqwest::Method::GET, "/queue").header("cookie", copied);
    assert_eq!(
        replay.send(request).await.unwrap().status,
        303,
        "a copied cookie ends with the logout"
    );
    assert_eq!(site.log_in("admin").await.status, 303);
    site.clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(site.http.get("/queue").await.status, 303, "a session ends by itself");
    assert_eq!(site.log_in("admin").await.status, 303);
    assert_eq!(site.act("/queue/logout", &[]).await.status, 303);
    assert_eq!(site.http.get("/queue").await.status, 303, "logged out");
}

async fn guess(site: &Site, name: &str) -> kit::Reply {
    let token = site.token("/queue/login").await;
    let fields = [("token", token.as_str()), ("name", name), ("password", "guess")];
    site.http.post_form("/queue/login", &fields).await
}

async fn wrong_passwords_are_slowed_down() {
    let site = site().await;
    for name in ["admin", "stranger"] {
        for _ in 0..5 {
            let wrong = guess(&site, name).await;
            assert_eq!(wrong.status, 401);
            assert!(wrong.body.contains("Name or password is wrong"));
        }
        let slowed = guess(&site, name).await;
        assert_eq!((slowed.status, slowed.header("retry-after")), (429, "60"), "{name}");
    }
    assert_eq!(site.log_in("admin").await.status, 429, "not even with the right one");
    assert_eq!(site.log_in("operator").await.status, 303, "others are not shut out");
    site.act("/queue/logout", &[]).await;
    site.clock.advance(Duration::from_secs(60));
    assert_eq!(site.log_in("admin").await.status, 303, "never for good");
}

async fn viewers_look_and_do_not_touch() {
    let site = site().await;
    site.log_in("viewer").await;
    let page = site.http.get("/queue/tasks/default/plain").await;
    assert_eq!(page.status, 200);
    assert!(
        !page.body.contains("Run now") && !page.body.contains("/archive"),
        "no buttons for viewers"
    );
    for path in ACTIONS {
        let refused = site.act(path, &[]).await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.body.contains("This needs the role"), "{path}: {}", refused.body);
    }
    for path in ["/queue/audit", "/queue/audit.csv", "/queue/api/v1/audit"] {
        assert_eq!(site.http.get(path).await.status, 403, "{path}");
    }
    assert!(
        !page.body.contains("/queue/audit"),
        "no entry for what one may not read"
    );
}

async fn operators_do_not_delete() {
    let site = site().await;
    site.log_in("operator").await;
    let refused = site.act("/queue/tasks/default/dead/delete", &[]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("admin"));
    let list = site.http.get("/queue/bad-messages").await.body;
    let (_, rest) = list.split_once("class=\"id\" href=\"").expect("a bad message");
    let message = rest.split('"').next().unwrap_or_default();
    let refused = site.act(&format!("{message}/delete"), &[]).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(site.http.get(message).await.status, 200, "still there");
    assert_eq!(
        site.http.get("/queue/tasks/default/dead").await.status,
        200,
        "still there"
    );
    assert_eq!(site.act("/queue/tasks/default/dead/run", &[]).await.status, 303);
}

async fn a_planted_name_is_worth_nothing() {
    let site = site().await;
    let before = site.token("/queue/login").await;
    site.log_in("admin").await;
    let refused = site.http.post_form("/queue/sync", &[("token", &before)]).await;
    assert_eq!(refused.status, 403, "a token from before the login");
    let page = site.http.get("/queue").await.body;
    let token = super::dashboard::token_of(&page);
    let thief = Http::new(&site.base);
    assert_eq!(
        thief.post_form("/queue/sync", &[("token", &token)]).await.status,
        401,
        "a token without its browser"
    );
}

async fn a_session_is_valid_wherever_the_key_is_known() {
    // Each site hashes the passwords again, as each process does at its start.
    let (first, second) = (site().await, site().await);
    let stranger = Site::start(Order {
        auth: users(),
        key: [43; 32],
        ..Order::default()
    })
    .await;
    let cookie_of = async |site: &Site| {
        let entered = site.log_in("admin").await;
        let session = entered
            .headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|c| c.to_str().ok())
            .find(|c| c.starts_with("runner_session_"))
            .expect("a session");
        let pair = session.split(';').next().unwrap_or_default();
        pair.split_once('=').expect("a value").1.to_owned()
    };
    // A browser sends it only to the port that it came from, but only the value counts.
    let asked = async |site: &Site, value: &str| {
        let browser = Http::new(&site.base);
        let first = browser.get("/queue/login").await;
        let guest = first.header("set-cookie").split('=').next().unwrap_or_default();
        let cookie = format!("{}={value}", guest.replace("guest", "session"));
        let request = browser.request(reqwest::Method::GET, "/queue");
        browser.send(request.header("cookie", cookie)).await.unwrap().status
    };
    let of_first = cookie_of(&first).await;
    assert_eq!(asked(&second, &of_first).await, 200, "another process with the key");
    assert_eq!(
        asked(&first, &cookie_of(&second).await).await,
        200,
        "the other way round"
    );
    assert_eq!(asked(&stranger, &of_first).await, 303, "another key");
    let mut auth = users();
    if let Auth::Login { users } = &mut auth {
        let new = |name| User {
            password_mark: "of a new password".to_owned(),
            ..users.get(name).unwrap()
        };
        let new = ["viewer", "operator", "admin"].map(new);
        users.set(new.to_vec());
    }
    let changed = Site::start(Order {
        auth,
        ..Order::default()
    })
    .await;
    assert_eq!(asked(&changed, &of_first).await, 303, "another password");
}
