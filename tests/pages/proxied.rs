//! Behind reverse proxies: addresses, cookies and forms under other names and paths, and trusted headers.

use std::time::Duration;

use reqwest::Method;
use runner::web::TrustedProxies;

use super::content::{EMPTY, FULL};
use super::dashboard::{Order, PASSWORD, Site, token_of, users};
use crate::kit::{self, Http, Reply};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_address_follows_the_prefix, a_public_url_needs_no_headers, only_trusted_headers_count,
            a_refused_form_names_both_addresses, the_client_behind_a_proxy_is_counted,
            an_open_dashboard_refuses_forwarded_requests, instances_on_two_ports_keep_their_cookies,
            the_program_reads_its_settings_and_logs_refusals;
        needs(Nginx): nginx_below_a_path, nginx_without_any_header
    ]
}

fn trusting(networks: &[&str]) -> TrustedProxies {
    TrustedProxies::listed(networks.iter().map(|text| text.parse().expect("a network")).collect())
}

async fn ask(http: &Http, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = http.request(Method::GET, path);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    http.send(request).await.expect("an answer")
}

async fn send(http: &Http, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Reply {
    let request = http.request(Method::POST, path).form(fields);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    http.send(request).await.expect("an answer")
}

/// Every address in a page.
fn addresses(page: &str) -> Vec<&str> {
    let places = [
        "href=\"",
        "src=\"",
        "action=\"",
        "name=\"back\" value=\"",
        "name=\"next\" value=\"",
    ];
    let found = places.iter().flat_map(|place| page.split(place).skip(1));
    let found = found.map(|rest| rest.split('"').next().unwrap_or_default());
    found.filter(|address| !address.starts_with(['#', '?'])).collect()
}

fn cookies(reply: &Reply) -> Vec<&str> {
    let lines = reply.headers.get_all("set-cookie").iter();
    lines.filter_map(|line| line.to_str().ok()).collect()
}

async fn every_address_follows_the_prefix() {
    let site = Site::full().await;
    let below = [("x-forwarded-prefix", "/ops/")];
    for path in EMPTY.iter().chain(&FULL).chain(&["/queue/tasks/default/none"]) {
        let page = ask(&Http::new(&site.base), path, &below).await;
        let found = addresses(&page.body);
        assert!(found.len() > 8, "{path}: {}", page.body);
        for address in found {
            let rest = address
                .strip_prefix("/ops/queue")
                .unwrap_or_else(|| panic!("{path} leads to {address}"));
            assert!(
                rest.is_empty() || rest.starts_with(['/', '?', '#']),
                "{path} leads to {address}"
            );
        }
        assert!(
            cookies(&page).iter().all(|line| line.contains("; Path=/ops/queue;")),
            "{path}"
        );
    }
    for (path, to) in [
        ("/", "/ops/queue"),
        ("/queue/", "/ops/queue"),
        ("/queue/queues/default", "/ops/queue/queues/default/pending"),
        ("/queue/find?id=done", "/ops/queue/tasks/default/done"),
    ] {
        // Proxies remove the prefix or leave it.
        for asked in [path.to_owned(), format!("/ops{path}")] {
            let answer = ask(&site.http, &asked, &below).await;
            assert_eq!(answer.header("location"), to, "{asked}: {}", answer.status);
        }
    }
    for path in ["/ops/queue/assets/queue.css", "/ops/healthz", "/ops/queue?page=1"] {
        assert_eq!(ask(&site.http, path, &below).await.status, 200, "{path}");
    }
    let browser = Http::new(format!("{}/ops", site.base));
    let token = token_of(&ask(&browser, "/queue", &below).await.body);
    let fields = [("token", token.as_str()), ("back", "/ops/queue/schedules")];
    let done = send(&browser, "/queue/sync", &below, &fields).await;
    assert_eq!((done.status, done.header("location")), (303, "/ops/queue/schedules"));
    for bad in ["//evil.example", "/a/../b", "ops", "/a\"b", "https://evil.example"] {
        let page = ask(&Http::new(&site.base), "/queue", &[("x-forwarded-prefix", bad)]).await;
        assert!(
            addresses(&page.body)
                .iter()
                .all(|address| address.starts_with("/queue")),
            "{bad}"
        );
    }
}

async fn a_public_url_needs_no_headers() {
    let site = Site::start(Order {
        auth: users(),
        public_url: Some("https://tools.example.com/ops".parse().unwrap()),
        ..Order::default()
    })
    .await;
    let first = site.http.get("/queue").await;
    assert_eq!(first.header("location"), "/ops/queue/login?next=%2Fops%2Fqueue");
    let page = site.http.get("/queue/login").await;
    let line = cookies(&page)[0].to_owned();
    assert!(
        line.contains("Path=/ops/queue; ") && line.ends_with("; Secure"),
        "{line}"
    );
    let enter = async |origin: &str| {
        let fields = [
            ("token", token_of(&page.body)),
            ("name", "admin".into()),
            ("password", PASSWORD.into()),
        ];
        let cookie = line.split(';').next().unwrap_or_default();
        let request = site.http.request(Method::POST, "/queue/login").header("cookie", cookie);
        site.http
            .send(request.header("origin", origin).form(&fields))
            .await
            .unwrap()
    };
    let entered = enter("https://tools.example.com").await;
    assert_eq!((entered.status, entered.header("location")), (303, "/ops/queue"));
    for other in [
        "http://tools.example.com",
        "https://tools.example.com:8443",
        "https://example.com",
    ] {
        assert_eq!(enter(other).await.status, 403, "{other}");
    }
    assert_eq!(enter(&site.base).await.status, 303, "asked for directly");
}

async fn only_trusted_headers_count() {
    let said = [
        ("x-forwarded-prefix", "/ops"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "jobs.example.com"),
    ];
    for (networks, counts) in [(&["127.0.0.0/8"][..], true), (&["10.0.0.0/8"], false), (&[], false)] {
        let site = Site::start(Order {
            trusted_proxies: trusting(networks),
            ..Order::default()
        })
        .await;
        let page = ask(&site.http, "/queue", &said[..2]).await;
        assert_eq!(page.body.contains("href=\"/ops/queue\""), counts, "{networks:?}");
        assert_eq!(cookies(&page)[0].contains("; Secure"), counts, "{networks:?}");
        // Without a login an unlisted name is refused, even through a proxy.
        let status = ask(&site.http, "/queue", &said).await.status;
        assert_eq!(status, if counts { 421 } else { 200 }, "{networks:?}");
    }
    let site = Site::start(Order {
        allowed_hosts: vec!["jobs.example.com".to_owned()],
        ..Order::default()
    })
    .await;
    assert_eq!(
        ask(&site.http, "/queue", &said).await.status,
        200,
        "a name that is listed"
    );
    let other = [("x-forwarded-host", "evil.example")];
    let refused = ask(&site.http, "/queue", &other).await;
    assert_eq!(refused.status, 421);
    assert!(refused.body.contains("evil.example"), "{}", refused.body);
}

async fn a_refused_form_names_both_addresses() {
    let order = |networks: &[&str]| Order {
        auth: users(),
        trusted_proxies: trusting(networks),
        ..Order::default()
    };
    let from = [
        ("origin", "https://jobs.example.com:8443"),
        ("sec-fetch-site", "same-origin"),
        ("x-forwarded-host", "jobs.example.com:8443"),
    ];
    let enter = async |site: &Site| {
        let token = token_of(&ask(&site.http, "/queue/login", &from[2..]).await.body);
        let fields = [("token", token.as_str()), ("name", "admin"), ("password", PASSWORD)];
        send(&site.http, "/queue/login", &from, &fields).await
    };
    let trusted = Site::start(order(&["127.0.0.1/32"])).await;
    assert_eq!(enter(&trusted).await.status, 303);
    let site = Site::start(order(&["10.0.0.0/8"])).await;
    let refused = enter(&site).await;
    assert_eq!(refused.status, 403);
    let host = site.base.trim_start_matches("http://");
    for name in [
        "https://jobs.example.com:8443",
        host,
        "server.trusted_proxies",
        "server.public_url",
    ] {
        assert!(refused.body.contains(name), "{name}: {}", refused.body);
    }
    let cookieless = Http::new(&site.base);
    let refused = send(&cookieless, "/queue/login", &[], &[("token", "x")]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("sent no cookie"), "{}", refused.body);
}

async fn the_client_behind_a_proxy_is_counted() {
    let guess = async |site: &Site, client: &str| {
        let token = site.token("/queue/login").await;
        let fields = [("token", token.as_str()), ("name", "admin"), ("password", "guess")];
        send(&site.http, "/queue/login", &[("x-forwarded-for", client)], &fields)
            .await
            .status
    };
    let listed = Site::start(Order {
        auth: users(),
        trusted_proxies: trusting(&["127.0.0.1/32"]),
        ..Order::default()
    })
    .await;
    for n in 0..5 {
        assert_eq!(guess(&listed, &format!("1.1.1.{n}, 203.0.113.7")).await, 401);
    }
    assert_eq!(
        guess(&listed, "9.9.9.9, 203.0.113.7").await,
        429,
        "a header of the client itself does not help"
    );
    assert_eq!(guess(&listed, "203.0.113.8").await, 401, "others are not shut out");
    let usual = Site::start(Order {
        auth: users(),
        ..Order::default()
    })
    .await;
    for n in 0..5 {
        assert_eq!(guess(&usual, &format!("203.0.113.{n}")).await, 401);
    }
    assert_eq!(
        guess(&usual, "203.0.113.99").await,
        429,
        "no local program chooses its address"
    );
}

async fn an_open_dashboard_refuses_forwarded_requests() {
    let site = Site::empty().await;
    for header in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
    ] {
        let refused = ask(&site.http, "/queue", &[header]).await;
        assert_eq!(refused.status, 421, "{header:?}");
        assert!(refused.body.contains("auth.users"), "{}", refused.body);
        assert_eq!(ask(&site.http, "/healthz", &[header]).await.status, 200, "{header:?}");
    }
    assert_eq!(
        ask(&site.http, "/queue", &[("x-forwarded-for", "127.0.0.1, ::1")])
            .await
            .status,
        200
    );
    let known = Site::start(Order {
        public_url: Some("https://jobs.example.com".parse().unwrap()),
        ..Order::default()
    })
    .await;
    assert_eq!(
        ask(&known.http, "/queue", &[("x-forwarded-for", "203.0.113.7")])
            .await
            .status,
        200
    );
}

async fn instances_on_two_ports_keep_their_cookies() {
    let order = || Order {
        auth: users(),
        ..Order::default()
    };
    // The same key and other ports of one host, for which a browser has one jar.
    let (first, second) = (Site::start(order()).await, Site::start(order()).await);
    let browser = Http::new("");
    for site in [&first, &second] {
        let page = browser.get(&format!("{}/queue/login", site.base)).await;
        let fields = [
            ("token", token_of(&page.body)),
            ("name", "admin".into()),
            ("password", PASSWORD.into()),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let entered = browser.post_form(&format!("{}/queue/login", site.base), &fields).await;
        assert_eq!(entered.status, 303);
    }
    for site in [&first, &second] {
        assert_eq!(
            browser.get(&format!("{}/queue", site.base)).await.status,
            200,
            "still logged in"
        );
    }
    let page = browser.get(&format!("{}/queue", first.base)).await;
    let left = browser
        .post_form(
            &format!("{}/queue/logout", first.base),
            &[("token", &token_of(&page.body))],
        )
        .await;
    assert_eq!(left.status, 303);
    assert_eq!(browser.get(&format!("{}/queue", first.base)).await.status, 303, "left");
    assert_eq!(
        browser.get(&format!("{}/queue", second.base)).await.status,
        200,
        "the other one continues"
    );
}

async fn the_program_reads_its_settings_and_logs_refusals() {
    let site =
        kit::Site::new("server: {public_url: \"https://tools.example.com/ops\", trusted_proxies: [10.0.0.0/8]}\n");
    let runner = site.start().await;
    let page = runner.http.get("/queue").await.body;
    assert!(page.contains("href=\"/ops/queue/schedules\""), "{page}");
    let headers = [
        ("origin", "https://other.example.com"),
        ("x-forwarded-host", "other.example.com"),
    ];
    let refused = send(&runner.http, "/queue/sync", &headers, &[("token", &token_of(&page))]).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    // Another thread writes the lines.
    kit::eventually_within(Duration::from_secs(30), "the line with both names", async || {
        let log = runner.log();
        let line = log
            .lines()
            .find(|line| line.contains("form_refused"))
            .unwrap_or_default();
        let of_line = ["https://other.example.com", "127.0.0.1:", "server.trusted_proxies"];
        let elsewhere = ["https://tools.example.com/ops/queue", "no users are configured"];
        let there = of_line.iter().all(|part| line.contains(part)) && elsewhere.iter().all(|part| log.contains(part));
        if there { Ok(()) } else { Err(log) }
    })
    .await;
}

/// The lines for nginx from the documentation, for a dashboard at `base`.
fn documented(base: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/proxy.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let (_, rest) = text.split_once("<!-- run: nginx -->\n```nginx\n").expect("its mark");
    let lines = rest.split("```").next().unwrap_or_default();
    assert!(lines.contains("http://127.0.0.1:8080/;"), "{lines}");
    lines.replace("http://127.0.0.1:8080", base)
}

/// Logs in through a proxy, as a browser does, and opens a page.
async fn logs_in_and_out(outside: &str, nginx: &kit::Nginx) {
    let browser = Http::new("");
    let origin = format!("http://127.0.0.1:{}", nginx.port);
    let first = browser.get(&format!("{outside}/")).await;
    let (status, to) = (first.status, first.header("location"));
    assert!(
        status == 303 && format!("{origin}{to}") == format!("{outside}/queue"),
        "{status} {to} {}",
        nginx.tail()
    );
    let next = browser.get(&format!("{origin}{to}")).await;
    let login = format!("{origin}{}", next.header("location"));
    let page = browser.get(&login).await;
    assert_eq!(page.status, 200, "{login}: {}", page.body);
    let address = |page: &str, ending: &str| {
        let found = addresses(page)
            .into_iter()
            .find(|a| a.split('?').next().is_some_and(|a| a.ends_with(ending)));
        format!("{origin}{}", found.unwrap_or_else(|| panic!("no {ending} in {page}")))
    };
    assert_eq!(browser.get(&address(&page.body, "/queue.css")).await.status, 200);
    let from = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
    let token = token_of(&page.body);
    let fields = [
        ("token", token.as_str()),
        ("name", "admin"),
        ("password", PASSWORD),
        ("next", "/queue/servers"),
    ];
    let entered = send(&browser, &address(&page.body, "/login"), &from, &fields).await;
    let to = format!("{origin}{}", entered.header("location"));
    assert_eq!(
        (entered.status, &to),
        (303, &format!("{outside}/queue/servers")),
        "{}",
        entered.body
    );
    let page = browser.get(&to).await;
    assert_eq!(page.status, 200, "the session's cookie came back");
    let left = send(
        &browser,
        &address(&page.body, "/logout"),
        &from,
        &[("token", &token_of(&page.body))],
    )
    .await;
    assert_eq!(left.status, 303, "{}", left.body);
}

async fn nginx_below_a_path() {
    let site = Site::start(Order {
        auth: users(),
        ..Order::default()
    })
    .await;
    let taken_away = documented(&site.base);
    let left_in = taken_away
        .replace(&format!("{}/;", site.base), &format!("{};", site.base))
        .replace("/ops", "/left");
    let nginx = kit::Nginx::start(&format!("{taken_away}\n{left_in}"));
    for path in ["/ops", "/left"] {
        logs_in_and_out(&format!("http://127.0.0.1:{}{path}", nginx.port), &nginx).await;
    }
}

async fn nginx_without_any_header() {
    // The public address has the proxy's port, which is known only once it runs; so the port comes first.
    let port = kit::free_port();
    let site = Site::start(Order {
        auth: users(),
        public_url: Some(format!("http://127.0.0.1:{port}/ops").parse().unwrap()),
        ..Order::default()
    })
    .await;
    let nginx = kit::Nginx::start_on(port, &format!("location /ops/ {{ proxy_pass {}/; }}", site.base));
    logs_in_and_out(&format!("http://127.0.0.1:{port}/ops"), &nginx).await;
}
