//! From a function to its result: fills the parameters, runs the statements in order, and commits or rolls back.

use std::time::Duration;

use runner_core::function::{RowBounds, SqlMode, SqlParameter, SqlSpec, SqlStatement, TemplateScope};
use runner_sdk::{Ctx, Outcome, TaskError};
use serde_json::{Value, json};

use super::SqlConnections;
use super::failure::Failure;
use super::session::Session;
use super::statement::{BoundStatement, Changed};
use crate::misconfigured::misconfigured;
use crate::scope;
use crate::stopped::stopped;

/// Time limit of statements whose task has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long connecting may take: a database that does not answer for longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long cancelling a statement may take. It needs a connection of its own to most databases.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the statements.
pub(crate) async fn run(
    spec: &SqlSpec,
    function: &str,
    connections: &SqlConnections,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let name = &spec.connection;
    let scope = scope::of(cx, function);
    let statements = spec.statements.iter().enumerate();
    let statements = statements.map(|(index, statement)| bind(index, statement, &scope));
    let statements = statements.collect::<Result<Vec<_>, _>>().map_err(TaskError::skip)?;
    let connection = connections.get(name).ok_or_else(|| {
        misconfigured(
            format!("the connection {name} is not defined (handlers.sql.connections)"),
            cx,
        )
    })?;
    let url = connection.url().await;
    let url = url.map_err(|why| misconfigured(format!("connection {name}: {why}"), cx))?;
    let limit = cx.time_limit().unwrap_or(DEFAULT_TIMEOUT);
    let deadline = tokio::time::Instant::now() + limit;
    let opening = tokio::time::timeout(CONNECT_TIMEOUT.min(limit), Session::open(&url, spec));
    let mut session = tokio::select! {
        reason = cx.cancelled() => return Err(stopped(reason, cx)),
        opened = opening => match opened {
            Ok(opened) => opened.map_err(|failure| failure.into_error(name, cx))?,
            Err(_) => return Err(TaskError::retry(format!("connection {name}: no answer within {CONNECT_TIMEOUT:?}"))),
        },
    };
    let cancel = session.canceller();
    let stop = tokio::select! {
        reason = cx.cancelled() => stopped(reason, cx),
        done = tokio::time::timeout_at(deadline, transact(&mut session, spec, &statements)) => match done {
            Ok(Ok(result)) => {
                session.close().await;
                cx.log().push("log", &format!("committed on the connection {name}"));
                return Ok(Outcome::success(result.to_string()));
            }
            Ok(Err(failure)) => {
                session.close().await;
                return Err(failure.into_error(name, cx));
            }
            Err(_) => TaskError::retry(format!("timeout after {limit:?}")),
        },
    };
    // A database that only loses its client may go on for hours.
    match tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel()).await {
        Ok(Ok(())) => cx.log().push("log", "the statement was cancelled on the server"),
        Ok(Err(error)) => {
            let note = format!("the statement could not be cancelled on the server: {error}");
            cx.log().push("log", &note);
        }
        Err(_) => cx
            .log()
            .push("log", "the statement could not be cancelled on the server in time"),
    }
    Err(stop)
}

fn bind<'s>(index: usize, statement: &'s SqlStatement, scope: &TemplateScope) -> Result<BoundStatement<'s>, String> {
    let mut values = Vec::with_capacity(statement.parameters.len());
    for (position, parameter) in statement.parameters.iter().enumerate() {
        values.push(match parameter {
            SqlParameter::Fixed(value) => value.clone(),
            SqlParameter::Filled(template) => template.value(scope).map_err(|fault| {
                let (index, position) = (index + 1, position + 1);
                format!("statement {index}, parameter {position}: {fault}")
            })?,
        });
    }
    Ok(BoundStatement {
        text: &statement.text,
        values,
        expect_rows: statement.expect_rows,
    })
}

async fn transact(session: &mut Session, spec: &SqlSpec, statements: &[BoundStatement<'_>]) -> Result<Value, Failure> {
    session.begin(spec).await?;
    let outcome = run_all(session, spec, statements).await;
    match outcome {
        Ok(result) => {
            session.end("COMMIT").await?;
            Ok(result)
        }
        Err(failure) => {
            // If this fails too, closing the connection has the same effect.
            session.end("ROLLBACK").await.ok();
            Err(failure)
        }
    }
}

async fn run_all(session: &mut Session, spec: &SqlSpec, statements: &[BoundStatement<'_>]) -> Result<Value, Failure> {
    let mut results = Vec::with_capacity(statements.len());
    for (index, statement) in statements.iter().enumerate() {
        let is_query = spec.mode == SqlMode::Query && index + 1 == statements.len();
        let (rows, result) = match is_query {
            true => {
                let rows = session.query(statement, spec.max_rows).await?;
                (rows.count, rows.into_json())
            }
            false => {
                let changed = session.execute(statement).await?;
                (changed.rows, changed_to_json(changed))
            }
        };
        if !statement.expect_rows.admit(rows) {
            let RowBounds { min, max } = statement.expect_rows;
            let bound = |bound: Option<u32>, none: &str| bound.map_or_else(|| none.to_owned(), |n| n.to_string());
            let (number, min, max) = (index + 1, bound(min, "0"), bound(max, "any number"));
            return Err(Failure::Final(format!(
                "statement {number}: {rows} rows, and expect_rows admits {min} to {max}; rolled back"
            )));
        }
        results.push(result);
    }
    Ok(match results.len() {
        1 => results.remove(0),
        _ if spec.mode == SqlMode::Query => results.pop().unwrap_or_default(),
        _ => json!({"statements": results}),
    })
}

fn changed_to_json(changed: Changed) -> Value {
    match changed.last_insert_id {
        Some(id) => json!({"rows_affected": changed.rows, "last_insert_id": id}),
        None => json!({"rows_affected": changed.rows}),
    }
}
