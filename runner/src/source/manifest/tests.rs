//! Manifests by example: the meaning of valid ones, and the report of each mistake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;

use runner_core::cron::DstRule;
use runner_core::function::{ExecResult, FunctionKind, HttpBody, Shell};
use runner_core::schedule::{CatchUpPolicy, Overlap};

use super::{Reading, ScheduleContext, read};

fn context() -> ScheduleContext {
    ScheduleContext {
        rabbitmq: vec!["main".to_owned()],
        redis: vec!["main".to_owned()],
        channels: Vec::new(),
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: DstRule::default(),
        vet: Default::default(),
        semaphores: runner_core::limit::SemaphoreReach::Everywhere,
    }
}

fn reading(text: &str) -> Reading {
    read(text, "a.yaml", &context())
}

fn good(text: &str) -> Reading {
    let reading = reading(text);
    assert!(reading.is_good(), "{text}\n{:#?}", reading.problems);
    reading
}

/// Every problem as `line:column code message`, with the hint behind ` // `.
fn reported(text: &str) -> Vec<String> {
    let one = |p: &runner_core::schedule::Problem| {
        let place = p.place.trim_start_matches("a.yaml").trim_start_matches(':');
        let hint = p.hint.as_ref().map_or(String::new(), |h| format!(" // {h}"));
        format!("{place} {} {}{hint}", p.code, p.message).trim().to_owned()
    };
    reading(text).problems.iter().map(one).collect()
}

/// A manifest, and all of its problems.
const SLIPS: &[(&str, &[&str])] = &[
    ("", &["E107 the file is empty; delete the file to remove its functions"]),
    ("- a\n", &["1:1 E108 the document must be a map, found a list"]),
    (
        "name: a\nconcurrency: {limit: 1, semaphore: \"a\\tb\"}\nhandler: x\n",
        &["2:36 E163 concurrency.semaphore: the scope has a control character"],
    ),
    (
        "name: a\nconcurrency: 0\nrate_limit: {count: 1}\nsequence: '{{ payload.a }}'\nhandler: x\n",
        &[
            "2:14 E163 concurrency must be a whole number from 1 to 1000000, found number 0",
            "3:13 E164 rate_limit needs per",
            "4:11 E165 sequence: a key is a plain path into the payload, such as payload.tenant, and no template // for example payload.tenant",
        ],
    ),
    (
        "just text\n",
        &["1:1 E108 the document must be a map, found \"just text\""],
    ),
    (
        "name: a\nshedule: '* * * * *'\nhandler: x\n",
        &["2:1 E110 unknown key \"shedule\" // did you mean \"schedule\"?"],
    ),
    (
        "name: a\ntimezone: UTC\nschedule: '@daily'\nhandler: x\n",
        &["2:1 E110 unknown key \"timezone\" // timezone belongs under schedule: {cron: …, timezone: …}"],
    ),
    ("schedule: '@daily'\nhandler: x\n", &["1:1 E111 name is required"]),
    (
        "name: Nightly Job\nschedule: '@daily'\nhandler: x\n",
        &[
            "1:7 E112 name \"Nightly Job\" may use a-z, 0-9, \".\", \"_\", \"-\", begin and end with a letter or digit, at most 100 // nightly-job",
        ],
    ),
    (
        "name: a\nschedule: '@daily'\n",
        &["1:1 E130 nothing to run: add one of handler, exec, http, mail, sql, enqueue, publish or wasm"],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: x\nexec: [date]\n",
        &["4:1 E131 both \"handler\" (line 3) and \"exec\" (line 4) are set; keep one"],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: ' '\n",
        &["3:10 E132 handler must not be empty"],
    ),
    (
        "name: a\nname: b\nschedule: '@daily'\nhandler: x\n",
        &["2:1 E103 duplicate key \"name\" (first in line 1)"],
    ),
    (
        "name: a\nenabled: yes\nschedule: '@daily'\nhandler: x\n",
        &["2:10 E120 enabled must be true or false, found \"yes\""],
    ),
    (
        "name: a\nschedule:\nhandler: x\n",
        &["2:1 E113 schedule is empty; give it a value or remove it"],
    ),
    (
        "name: a\nschedule: 5\nhandler: x\n",
        &["2:11 E200 schedule must be a string, a map or a list of maps, found number 5"],
    ),
    (
        "name: a\nschedule: {every: 10}\nhandler: x\n",
        &["2:19 E207 schedule.every needs a unit, found number 10 // write 10s"],
    ),
    (
        "name: a\nschedule: {every: 0s}\nhandler: x\n",
        &[
            "2:19 E207 schedule.every must be a duration from 1s to 8784h0m0s, found \"0s\" // for example 10s, 5m, 1h30m",
        ],
    ),
    (
        "name: a\nschedule: {every: 1500ms}\nhandler: x\n",
        &["2:19 E207 schedule.every must be whole seconds, found \"1500ms\""],
    ),
    (
        "name: a\nschedule: {timezone: UTC}\nhandler: x\n",
        &["2:11 E202 schedule needs one of cron, every, at"],
    ),
    (
        "name: a\nschedule: {cron: '@daily', every: 1h}\nhandler: x\n",
        &["2:11 E202 schedule has cron and every; keep one"],
    ),
    (
        "name: a\nschedule:\n  - {cron: '@daily'}\n  - {id: b, cron: '@hourly'}\nhandler: x\n",
        &["3:5 E201 schedule[0] needs an id because there is more than one schedule"],
    ),
    (
        "name: a\nschedule:\n  - {id: b, cron: '@daily'}\n  - {id: b, cron: '@hourly'}\nhandler: x\n",
        &["4:5 E140 schedule id of m:a:b is used twice (lines 3, 4)"],
    ),
    (
        "name: a\nschedule: {cron: 'CRON_TZ=UTC 0 2 * * *', timezone: Asia/Tokyo}\nhandler: x\n",
        &["2:43 E211 time zone is set both in \"CRON_TZ=\" and in timezone; keep one"],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', overlap: forbid}\nhandler: x\n",
        &[
            "2:40 E217 schedule.overlap must be skip or allow, found \"forbid\" // Forbid of Kubernetes is \"skip\" here",
        ],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', overlap: {policy: allow, retries: ignore}}\nhandler: x\n",
        &[
            "2:65 E217 schedule.overlap.retries has no effect where schedule.overlap is allow // remove retries, or write policy: skip",
        ],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', overlap: {retries: igonre}}\nhandler: x\n",
        &["2:50 E217 schedule.overlap.retries must be count or ignore, found \"igonre\" // did you mean \"ignore\"?"],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', catch_up: {policy: lats, max: 0}}\nhandler: x\n",
        &[
            "2:50 E218 schedule.catch_up.policy must be none, last or all, found \"lats\" // did you mean \"last\"?",
            "2:61 E218 schedule.catch_up.max must be a whole number from 1 to 1000, found number 0",
        ],
    ),
    (
        "name: a\nschedule: {every: 5m, jitter: 10m}\nhandler: x\n",
        &["2:31 W223 jitter 10m0s is clipped to 2m30s, half of the 5m0s interval"],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', catch_up: all}\nhandler: x\n",
        &[
            "2:41 W224 catch_up all with overlap skip runs only the newest of the late occurrences // add overlap: allow",
        ],
    ),
    (
        "name: a\nschedule: {cron: '0 2 * * *', catch_up: all, overlap: allow}\nhandler: x\n",
        &[],
    ),
    (
        "name: a\nschedule: {at: '2026-03-08T02:30:00', timezone: America/New_York}\nhandler: x\n",
        &["2:16 E209 schedule.at \"2026-03-08T02:30:00\" does not exist in America/New_York: the clocks jump over it"],
    ),
    (
        "name: a\nschedule: '@daily'\nexec: {command: 'rm -rf x'}\n",
        &[
            "3:17 E301 exec.command must be a list of strings, found \"rm -rf x\" // write [rm, -rf, x], or set shell: true",
        ],
    ),
    (
        "name: a\nschedule: '@daily'\nexec: [sleep, 5]\n",
        &["3:15 E301 exec[1] must be a string, found number 5 // put it in quotes"],
    ),
    (
        "name: a\nschedule: '@daily'\nexec: {command: [x], comand: [y], env: {A: 1}, cwd: tmp}\n",
        &[
            "3:22 E110 unknown key \"comand\" in exec // did you mean \"command\"?",
            "3:44 E305 exec.env.A must be a string, found number 1 // put it in quotes",
            "3:53 E305 exec.cwd must be \"temp\" or an absolute path, found \"tmp\"",
        ],
    ),
    (
        "name: a\nschedule: '@daily'\nhttp: {url: 'file:///etc/passwd', method: get, headers: {Host: x}}\n",
        &[
            "3:13 E310 http.url \"file:///etc/passwd\" must be http:// or https://",
            "3:43 E312 http.method must be GET, HEAD, POST, PUT, PATCH or DELETE, found \"get\" // did you mean \"GET\"?",
            "3:57 E312 http.headers: \"Host\" cannot be set",
        ],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: x\nretry: -1\ntimeout: 500ms\nretention: 1y\nqueue: ''\n",
        &[
            "4:8 E160 retry must be a whole number from 0 to 1000, found number -1",
            "5:10 E161 timeout must be a duration from 1s to 168h0m0s, found \"500ms\" // for example 10s, 5m, 1h30m",
            "6:12 E162 retention is not a duration: unknown unit \"y\" in duration \"1y\"; units are ns us ms s m h d w // for example 10s, 5m, 1h30m",
            "7:8 E166 queue must not be empty",
        ],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: x\nunique: {ttl: 1h, on_conflict: drop}\n",
        &["4:32 E167 unique.on_conflict must be keep, replace or reschedule, found \"drop\""],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: x\nunique: {key: payload.a}\n",
        &["4:9 E167 unique.ttl is required // for example ttl: 1h"],
    ),
    (
        "name: a\nschedule: '@daily'\nhandler: x\npayload: {1: a, b: {c: 1, c: 2}}\n",
        &[
            "4:11 E151 a key of payload must be a string to be written as JSON, found number 1 // put it in quotes",
            "4:27 E103 duplicate key \"c\" in payload.b",
        ],
    ),
    (
        "name: a\nhandler: x\npayload: 5\nschedule: {cron: '@daily', payload: {b: 1}}\n",
        &["4:11 E221 the function's payload must be a map, so that the schedule's can be merged over it"],
    ),
    (
        "apiVersion: runner/v3\nkind: Job\nname: a\nhandler: x\n",
        &[
            "1:13 E101 unsupported apiVersion, found \"runner/v3\"; this runner reads runner/v1",
            "2:7 E102 unknown kind, found \"Job\"; expected Function",
        ],
    ),
    (
        "name: a\nhandler: x\n---\nname: a\nhandler: y\n",
        &[
            "1:1 W201 no manifest schedules this function; `runner run a` runs it by hand",
            "4:1 W201 no manifest schedules this function; `runner run a` runs it by hand",
            "4:1 E401 name \"a\" is already defined in a.yaml:1",
        ],
    ),
];

#[test]
fn slips_are_reported_with_place_and_code() {
    let wrong = SLIPS.iter().filter(|(text, expected)| reported(text) != *expected);
    let wrong: Vec<String> = wrong
        .map(|(text, expected)| format!("{text}{expected:#?}\n{:#?}", reported(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_yaml_itself_refuses_comes_with_advice() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "name: a\nschedule: * * * * *\n",
            "2:11 E100",
            "// quote cron expressions: schedule: \"* * * * *\"",
        ),
        (
            "name: a\nschedule: */5 * * * *  # often\n",
            "2:11 E100",
            "// quote cron expressions: schedule: \"*/5 * * * *\"",
        ),
        (
            "name: a\nschedule: @every 5m\n",
            "2:11 E100",
            "// quote cron expressions: schedule: \"@every 5m\"",
        ),
        (
            "schedule:\n  cron: @daily\n",
            "2:9 E100",
            "// quote cron expressions: cron: \"@daily\"",
        ),
        (
            "a:\n\t- b\n",
            "2:2 E100",
            "// indent with spaces; YAML does not allow tabs there",
        ),
        (
            "description: note: this\n",
            "1:18 E100",
            "// put a value that holds \": \" in quotes",
        ),
        ("a: {b: 1\n", "1:4 E100", "unclosed bracket"),
        ("<<: {a: 1}\n", "1:1 E109", "merge keys"),
        ("a: !secret x\n", "1:12 E109", "unsupported tag `!secret`"),
        ("payload: .nan\n", "1:10 E109", "number .nan is not finite"),
        ("a: &a [*a]\n", "1:8 E104", "an alias inside the value"),
    ];
    for (text, place, words) in cases {
        let reported = reported(text);
        assert!(
            reported[0].starts_with(place) && reported[0].contains(words),
            "{text}: {reported:?}"
        );
        assert_eq!(reported.len(), 1, "{reported:?}");
    }
}

#[test]
fn hostile_texts_are_refused_in_no_time() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..9 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    let deep_maps = format!("a: {}", "{a: ".repeat(20_000));
    let texts = [
        (format!("a: {}", "[".repeat(100_000)), "nesting deeper than 32"),
        (deep_maps, "nesting deeper than 32"),
        (bomb, "aliases expand to more than 10000 values"),
        (format!("a: {}", "x".repeat(300 * 1024)), "at most 262144 are read"),
        (format!("a: [{}]", "1,".repeat(50_000)), "more than 10000 values"),
        ("---\na: 1\n".repeat(1_001), "documents"),
    ];
    for (text, words) in texts {
        let start = tokio::time::Instant::now();
        let reported = reported(&text);
        let took = start.elapsed();
        assert!(
            reported[0].contains("E104") && reported[0].contains(words),
            "{words}: {reported:?}"
        );
        assert!(took < Duration::from_secs(5), "{words}: {took:?}");
    }
}

#[test]
fn overlap_says_whether_a_retry_counts() {
    for (text, expected) in [
        ("skip", Overlap::Skip),
        ("{policy: skip}", Overlap::Skip),
        ("{retries: count}", Overlap::Skip),
        ("{policy: skip, retries: ignore}", Overlap::SkipIgnoringRetries),
        ("{retries: ignore}", Overlap::SkipIgnoringRetries),
        ("{policy: allow}", Overlap::Allow),
    ] {
        let reading = good(&format!(
            "name: a\nschedule: {{cron: '@daily', overlap: {text}}}\nhandler: x\n"
        ));
        assert_eq!(reading.entries[0].schedules[0].overlap, expected, "{text}");
    }
}

#[test]
fn a_cron_error_points_inside_the_expression() {
    let reading = reading("name: a\nschedule: \"0 25 * * *\"\nhandler: x\n");
    let shown = reading.problems[0].to_string();
    let expected = "a.yaml:2:14: E203 schedule \"0 25 * * *\": hour 25 is not in 0-23\n  \
                    2 | schedule: \"0 25 * * *\"\n    |              ^^";
    assert!(shown.starts_with(expected), "{shown}");
}

#[test]
fn a_manifest_says_all_of_this() {
    let reading = good(
        "apiVersion: runner/v1\nkind: Function\nname: billing.run\ndescription: ' Invoices '\nenabled: false\n\
         handler: task:invoice\n\
         payload: {z: 1, a: [true, null, 1.5, \"x\"], mode: full, day: 12:30, no: no}\n\
         queue: critical\nretry: 3\ntimeout: 20m\nretention: 72h\n\
         schedule:\n  - id: nightly\n    cron: '0 2 * * MON-FRI'\n    timezone: America/New_York\n    \
         overlap: allow\n    catch_up: {policy: all, window: 6h, max: 12}\n    jitter: 2m\n    payload: {mode: fast, n: 1}\n  \
         - id: month-end\n    cron: ['0 20 1 * *', '0 20 15 * *']\n  - id: sweep\n    every: 45m\n",
    );
    let [entry] = reading.entries.as_slice() else {
        panic!("{reading:?}")
    };
    assert_eq!(entry.function.description, "Invoices");
    assert_eq!(entry.function.task_type(), "task:invoice");
    let [nightly, month_end, sweep] = entry.schedules.as_slice() else {
        panic!()
    };
    assert_eq!(nightly.id.as_str(), "m:billing.run:nightly");
    assert_eq!(nightly.origin.place, "a.yaml:13");
    assert!(!nightly.enabled);
    assert_eq!(
        (nightly.overlap, nightly.jitter),
        (Overlap::Allow, Duration::from_secs(120))
    );
    assert_eq!(nightly.catch_up.policy, CatchUpPolicy::All);
    assert_eq!(
        (nightly.catch_up.window, nightly.catch_up.max),
        (Duration::from_secs(21_600), 12)
    );
    assert_eq!(nightly.timing.zone_name, "America/New_York");
    let task = &nightly.task;
    assert_eq!(
        task.payload.as_deref(),
        Some(br#"{"z":1,"a":[true,null,1.5,"x"],"mode":"fast","day":"12:30","no":"no","n":1}"#.as_slice())
    );
    assert_eq!((task.queue.as_str(), task.max_retry), ("critical", 3));
    assert_eq!(
        (task.timeout, task.retention),
        (Some(Duration::from_secs(1200)), Duration::from_secs(259_200))
    );
    assert_eq!(month_end.timing.text, "0 20 1 * * | 0 20 15 * *");
    assert_eq!(
        (month_end.overlap, month_end.timing.zone_name.as_str()),
        (Overlap::Skip, "UTC")
    );
    assert_eq!(sweep.timing.text, "@every 45m0s");
}

#[test]
fn commands_and_calls_have_a_short_and_a_long_form() {
    let reading = good(
        "name: a\nschedule: '@daily'\nexec: [date, '+%F']\n---\nname: b\nschedule: '@daily'\nexec:\n  command: 'a | b'\n  \
         shell: true\n  cwd: /tmp\n  env: {A: b}\n  inherit_env: [PATH]\n  stdin: none\n  result: stdout\n  \
         exit_codes: {retry: [1, 2]}\n  kill_after: 3s\n---\nname: c\nschedule: '@daily'\nhttp: https://example.com/x\n\
         ---\nname: d\nschedule: '@daily'\nhttp:\n  url: http://example.com\n  method: GET\n  headers: {X-A: b}\n  \
         body: none\n  success: [200, 300-399]\n  retry_on: [500-599]\n",
    );
    let kinds: Vec<&FunctionKind> = reading.entries.iter().map(|e| &e.function.kind).collect();
    let [
        FunctionKind::Exec(a),
        FunctionKind::Exec(b),
        FunctionKind::Http(c),
        FunctionKind::Http(d),
    ] = kinds[..]
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((a.command.join(" "), a.shell), ("date +%F".into(), None));
    assert_eq!((b.command.join(" "), b.shell), ("a | b".into(), Some(Shell::Sh)));
    assert_eq!(
        (b.cwd.as_deref(), b.stdin_payload, b.result),
        (Some(Path::new("/tmp")), false, ExecResult::Stdout)
    );
    assert_eq!((b.inherit_env.join(","), b.env["A"].as_str()), ("PATH".into(), "b"));
    assert_eq!((&b.exit_codes.success, &b.exit_codes.retry), (&vec![0], &vec![1, 2]));
    assert_eq!(
        (c.method.as_str(), c.url.as_str(), &c.body),
        ("POST", "https://example.com/x", &HttpBody::Payload)
    );
    assert_eq!(
        (&d.body, &d.success, &d.retry_on),
        (&HttpBody::None, &vec![(200, 200), (300, 399)], &vec![(500, 599)])
    );
    assert_eq!(reading.entries[3].schedules[0].task.kind, "fn:d");
}

#[test]
fn whole_numbers_in_a_payload_keep_their_digits_or_are_refused() {
    let payload = |text: &str| {
        let reading = reading(&format!("name: a\nschedule: '@daily'\nhandler: x\npayload: {text}\n"));
        let payload = reading
            .entries
            .first()
            .and_then(|e| e.schedules[0].task.payload.clone());
        payload.map(|p| String::from_utf8(p.to_vec()).unwrap())
    };
    let kept = [
        ("738529527931269425", "738529527931269425"),
        (
            "[18446744073709551615, -9223372036854775808]",
            "[18446744073709551615,-9223372036854775808]",
        ),
        ("'123456789012345678901234567890'", "\"123456789012345678901234567890\""),
        ("[1e30, 2.5, 1234567890.5e20]", "[1e+30,2.5,1.2345678905e+29]"),
    ];
    for (written, json) in kept {
        assert_eq!(payload(written).as_deref(), Some(json), "{written}");
    }
    for written in [
        "18446744073709551616",
        "-9223372036854775809",
        "+123456789012345678901234567890",
        "9999999999999999999999",
    ] {
        assert_eq!(payload(&format!("[{written}]")), None, "{written}");
        let reported = reported(&format!(
            "name: a\nhandler: x\nschedule: '@daily'\npayload: {{n: {written}}}\n"
        ));
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(
            reported[0].starts_with("4:14 E151 payload.n is a whole number"),
            "{reported:?}"
        );
    }
}

#[test]
fn absent_payload_is_none_and_comments_alone_are_an_empty_file() {
    let reading = good("name: a\nschedule: '@daily'\nhandler: x\npayload: ~\n");
    assert_eq!(reading.entries[0].schedules[0].task.payload, None);
    assert!(good("# nothing yet\n").entries.is_empty());
}

fn yaml_files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(dir);
    let paths = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}", dir.display());
    paths
}

#[test]
fn good_files_are_good() {
    for path in yaml_files("tests/data/manifests/good")
        .into_iter()
        .chain(yaml_files("manifests"))
    {
        let reading = reading(&std::fs::read_to_string(&path).unwrap());
        assert!(reading.is_good(), "{}: {:#?}", path.display(), reading.problems);
    }
}

/// Beside each bad file is its report, word for word.
#[test]
fn bad_files_are_reported_all_their_faults_at_once() {
    for path in yaml_files("tests/data/manifests/bad") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let reading = read(&std::fs::read_to_string(&path).unwrap(), name, &context());
        let shown: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
        let shown = shown.join("\n") + "\n";
        let expected = path.with_extension("txt");
        assert!(
            shown == std::fs::read_to_string(&expected).unwrap_or_default(),
            "{name}:
{shown}"
        );
        assert!(reading.entries.is_empty(), "{name}");
    }
}

#[test]
fn limits_are_read_in_their_short_and_long_forms() {
    use runner_core::limit::{LimitKey, LimitRule, OnLimit, SharedSemaphore, StartRate, TaskLimit};
    let limits = |text: &str| {
        let reading = good(&format!("name: a\nhandler: x\n{text}"));
        reading.entries[0].function.limits.clone()
    };
    assert_eq!(limits("concurrency: 3\n"), [TaskLimit::new(LimitRule::Concurrency(3))]);
    let key = Some(LimitKey::new("t.id").unwrap());
    let keyed = TaskLimit {
        key: key.clone(),
        on_limit: OnLimit::Skip,
        ..TaskLimit::new(LimitRule::Concurrency(2))
    };
    assert_eq!(
        limits("concurrency: {limit: 2, key: payload.t.id, on_limit: skip}\n"),
        [keyed]
    );
    let shared = SharedSemaphore::new("api", 2).unwrap();
    let shared = TaskLimit {
        key: key.clone(),
        ..TaskLimit::new(LimitRule::Semaphore(shared))
    };
    let text = "concurrency: {semaphore: api, limit: 2, key: payload.t.id}\n";
    assert_eq!(limits(text), [shared]);
    let rate = |burst| {
        let (count, per) = (100, Duration::from_millis(500));
        TaskLimit::new(LimitRule::Rate(StartRate { count, per, burst }))
    };
    assert_eq!(limits("rate_limit: {count: 100, per: 500ms}\n"), [rate(100)]);
    assert_eq!(limits("rate_limit: {count: 100, per: 500ms, burst: 1}\n"), [rate(1)]);
    let order = TaskLimit {
        key,
        ..TaskLimit::new(LimitRule::Sequence)
    };
    assert_eq!(limits("sequence: t.id\n"), [order]);
    assert_eq!(limits("sequence: true\n"), [TaskLimit::new(LimitRule::Sequence)]);
    assert_eq!(limits("sequence: false\n"), []);
}

#[test]
fn a_semaphore_that_the_broker_does_not_share_is_an_error() {
    use runner_core::limit::SemaphoreReach;
    let reported = |semaphores, text: &str| {
        let context = ScheduleContext {
            semaphores,
            ..context()
        };
        let reading = read(text, "a.yaml", &context);
        let shown = |p: &runner_core::schedule::Problem| {
            format!("{} {} // {}", p.code, p.message, p.hint.clone().unwrap_or_default())
        };
        reading.problems.iter().map(shown).collect::<Vec<_>>()
    };
    let text = "name: a\nschedule: '@daily'\nexec: [x]\nqueue: mails\nconcurrency: {semaphore: api, limit: 2}\n";
    assert_eq!(reported(SemaphoreReach::Everywhere, text), [""; 0]);
    assert_eq!(
        reported(SemaphoreReach::Nowhere, text),
        [
            "E168 concurrency.semaphore: semaphores are shared with Go programs in Redis, and tasks are in a file here \
          // leave semaphore out, or name a Redis server in the settings under redis"
        ]
    );
    let found = reported(SemaphoreReach::SlotOfQueue, text).concat();
    assert!(
        found.contains("\"asynq:sema:api\" is not in that of \"mails\""),
        "{found}"
    );
    assert!(found.ends_with("such as \"{mails}:api\""), "{found}");
    let tagged = text.replace("api", "'{mails}:api'");
    assert_eq!(reported(SemaphoreReach::SlotOfQueue, &tagged), [""; 0]);
}

#[test]
fn uniqueness_is_a_duration_or_a_map() {
    use runner_core::task::{Unique, UniqueKey};
    let hour = Duration::from_secs(3600);
    let unique = |text: &str| {
        let reading = good(&format!("name: a\nschedule: '@daily'\nhandler: x\nunique: {text}\n"));
        reading.entries[0].schedules[0].task.unique.clone().unwrap()
    };
    assert_eq!(unique("1h"), Unique::new(hour));
    let mut whole = Unique::new(hour).while_pending().replace();
    whole.key = Some(UniqueKey::Payload("page.id".to_owned()));
    let text = "{ttl: 1h, key: payload.page.id, scope: pending, on_conflict: replace}";
    assert_eq!(unique(text), whole);
}
