//! RabbitMQ: connections (`dial`), what goes wrong (`fault`), and publishing with confirms (`publisher`).

pub mod fault;

mod dial;
mod publisher;
mod shallow;

pub use dial::{check_url, connect};
pub use publisher::{AmqpMessage, AmqpPublisher};
