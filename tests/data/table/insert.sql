INSERT INTO `sys_crontab`
(`name`, `type`, `spec`, `payload`, `status`)
VALUES
('每日数据统计', 'task:daily-stats', '0 1 * * *', '{"date":"today"}', 1);
