//! Expressions in words, in both languages.

use super::expression;
use crate::cron::Language;

const WORDS: &[(&str, &str, &str)] = &[
    ("0 1 * * *", "at 01:00 every day", "每天 01:00"),
    ("@daily", "at 00:00 every day", "每天 00:00"),
    ("*/5 * * * *", "every 5 minutes", "每 5 分钟"),
    ("* * * * *", "every minute", "每分钟"),
    ("@hourly", "every hour", "每小时"),
    ("0 */2 * * *", "every 2 hours", "每 2 小时"),
    ("0 */2 * * 1", "every 2 hours on Monday", "每周一 每 2 小时"),
    ("15 * * * *", "at minute 15 of every hour", "每小时的第 15 分"),
    (
        "30 */2 * * *",
        "at minute 30 past every 2nd hour from midnight",
        "从零点起每 2 小时的第 30 分",
    ),
    (
        "0 9,12,18 * * *",
        "at 09:00, 12:00 and 18:00 every day",
        "每天 09:00、12:00、18:00",
    ),
    ("30 9 * * 1-5", "at 09:30 on Monday to Friday", "每周一至周五 09:30"),
    (
        "0 10 * * sat,7",
        "at 10:00 on Saturday and Sunday",
        "每周六、周日 10:00",
    ),
    (
        "*/10 9-17 * * 1-5",
        "every 10 minutes from 09:00 to 17:59 on Monday to Friday",
        "每周一至周五 09:00 至 17:59 每 10 分钟",
    ),
    ("* 0 * * *", "every minute from 00:00 to 00:59", "00:00 至 00:59 每分钟"),
    ("0 0 1 * *", "at 00:00 on day 1 of every month", "每月 1 日 00:00"),
    (
        "0 0 1,15 * *",
        "at 00:00 on days 1 and 15 of every month",
        "每月 1、15 日 00:00",
    ),
    ("@yearly", "at 00:00 on 1 January", "每年 1 月 1 日 00:00"),
    (
        "0 3 1 3,6,9,12 *",
        "at 03:00 on day 1 of March, June, September and December",
        "每年 3、6、9、12 月的 1 日 03:00",
    ),
    (
        "0 8 * 6-8 *",
        "at 08:00 every day in June to August",
        "每年 6 至 8 月每天 08:00",
    ),
    (
        "0 0 13 * 5",
        "at 00:00 on day 13 of every month, and also on Friday",
        "每月 13 日或每周五 00:00",
    ),
    (
        "*/7 * * * *",
        "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour",
        "每小时的第 0、7、14、21、28、35、42、49、56 分",
    ),
    (
        "*/7 */5 * * *",
        "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of hours 0, 5, 10, 15 and 20",
        "0、5、10、15、20 点的第 0、7、14、21、28、35、42、49、56 分",
    ),
    ("*/10 * * * * *", "every 10 seconds", "每 10 秒"),
    ("30 5 4 * * *", "at 04:05:30 every day", "每天 04:05:30"),
    (
        "* 5 4-6 * * *",
        "every second of minute 5 of hours 4 to 6",
        "4 至 6 点的第 5 分的每一秒",
    ),
    ("@every 90m", "every 1 hour 30 minutes", "每 1 小时 30 分钟"),
    ("@every 1m", "every minute", "每分钟"),
    ("0 0 30 2 *", "never", "从不触发"),
    (
        "CRON_TZ=Asia/Shanghai 0 1 * * *",
        "at 01:00 every day (Asia/Shanghai)",
        "每天 01:00（Asia/Shanghai）",
    ),
];

#[test]
fn common_shapes_read_as_one_would_say_them() {
    for (text, english, chinese) in WORDS {
        let parsed = expression(text);
        assert_eq!(parsed.describe(Language::English), *english, "{text}");
        assert_eq!(parsed.describe(Language::Chinese), *chinese, "{text}");
    }
}
