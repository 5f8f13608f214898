//! Actions on one queue: pause, resume.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;

use super::{Audit, done, settled, told};
use crate::web::desk::Desk;
use crate::web::fault::Fault;
use crate::web::pages::tasks::queue_name;
use crate::web::visitor::{Form, Who};

/// `POST /queue/queues/{queue}/{verb}`
pub async fn one(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Who>,
    Path((queue, verb)): Path<(String, String)>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, Fault> {
    let name = queue_name(&queue)?;
    let queue = name.to_string();
    // Pausing makes a mark under the name; a name that nobody uses must not get one.
    let known = desk.broker.queues_of(std::slice::from_ref(&name)).await?;
    if known.is_empty() {
        return Err(Fault::Gone("queue", queue));
    }
    let key = match verb.as_str() {
        "pause" => {
            let audit = Audit::intent(&visitor, "queue.pause", &queue);
            settled(audit, desk.broker.pause_queue(&name).await)?;
            "notice.queue.pause"
        }
        "resume" => {
            let audit = Audit::intent(&visitor, "queue.resume", &queue);
            settled(audit, desk.broker.resume_queue(&name).await)?;
            "notice.queue.resume"
        }
        _ => return Err(Fault::NoPage),
    };
    Ok(told(&desk, &form.back(), &done(key, queue)))
}
