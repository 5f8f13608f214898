-- Schedules that are edited while the program runs. An existing table is never touched.
CREATE TABLE IF NOT EXISTS `sys_crontab` (
  `id` bigint unsigned NOT NULL AUTO_INCREMENT,
  `name` varchar(100) NOT NULL COMMENT '任务名称',
  `type` varchar(50) NOT NULL COMMENT '任务类型',
  `spec` varchar(100) NOT NULL COMMENT 'Cron 表达式',
  `payload` text COMMENT '任务参数（JSON）',
  `status` tinyint NOT NULL DEFAULT '1' COMMENT '状态：1-启用，0-禁用',
  `created_at` datetime DEFAULT NULL,
  `updated_at` datetime DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
