//! Many commands in one request. They begin in their order; so those about one channel follow each other, and others
//! need not.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::proto::centrifuge::{ErrorCode, or_default};

use super::Method;
use super::command::{Answers, Asked, Caller, Outcome};
use super::error::ApiError;
use super::request::read;

/// Commands of one request, at most.
const COMMANDS_MAX: usize = 1000;

#[derive(Deserialize)]
struct BatchRequest<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    commands: Vec<&'a RawValue>,
}

/// `{"method": …, "params": …}`.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, deserialize_with = "or_default")]
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// `{"commands":[{"publish":{…}},…]}`. Whether they may run beside each other makes no difference.
pub(super) fn batch(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let BatchRequest { commands } = read(json)?;
    if commands.len() > COMMANDS_MAX {
        return Err(ApiError::TOO_MANY);
    }
    let asked: Vec<_> = commands
        .iter()
        .map(|command| ask_named(caller, command.get()))
        .collect();
    Ok(Asked::several(|answers| {
        let replies = asked.into_iter();
        let replies: Vec<String> = replies.map(|one| reply(one, answers)).collect();
        Ok(format!("{{\"replies\":[{}]}}", replies.join(",")))
    }))
}

/// `{"publish":{…}}`: one command by its name.
fn ask_named(caller: &mut Caller<'_>, json: &str) -> Result<(&'static str, Asked), ApiError> {
    let command: BTreeMap<String, &RawValue> = read(json)?;
    let mut members = command.iter().filter(|(_, params)| params.get() != "null");
    match (members.next(), members.next()) {
        (Some((name, params)), None) => {
            let method = Method::named(name).ok_or(ErrorCode::MethodNotFound)?;
            Ok((method.name, ask(caller, method, params.get())?))
        }
        _ => Err(ApiError::BAD_REQUEST),
    }
}

fn ask(caller: &mut Caller<'_>, method: &Method, params: &str) -> Result<Asked, ApiError> {
    caller.may_call(method.name)?;
    (method.ask)(caller, params)
}

fn reply(asked: Result<(&'static str, Asked), ApiError>, answers: &mut Answers) -> String {
    let done = asked.and_then(|(name, asked)| Ok((name, asked.outcome(answers)?)));
    match done {
        Ok((name, result)) => format!("{{\"{name}\":{result}}}"),
        Err(error) => format!("{{\"error\":{}}}", error.to_json()),
    }
}

/// Commands one after the other, by lines or not. Nothing is done if one of them is no JSON.
pub(super) fn lines(
    caller: &mut Caller<'_>,
    text: &str,
) -> Result<Vec<Result<Asked, ApiError>>, ApiError> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let values: Result<Vec<&RawValue>, _> = values.take(COMMANDS_MAX + 1).collect();
    let values = values.map_err(|error| ApiError::malformed(&error.to_string()))?;
    if values.is_empty() {
        return Err(ApiError::malformed("no command"));
    }
    if values.len() > COMMANDS_MAX {
        return Err(ApiError::TOO_MANY);
    }
    let asked = values.iter().map(|line| ask_line(caller, line.get()));
    Ok(asked.collect())
}

fn ask_line(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let line: Line<'_> = read(json)?;
    let method = Method::named(&line.method).ok_or(ErrorCode::MethodNotFound)?;
    ask(caller, method, line.params.map_or("{}", RawValue::get))
}

/// One line for each command.
pub(super) fn answer_lines(
    asked: impl Iterator<Item = Result<Asked, ApiError>>,
    answers: &mut Answers,
) -> String {
    let lines = asked.map(|one| line(one.and_then(|asked| asked.outcome(answers))));
    lines.collect()
}

fn line(outcome: Outcome) -> String {
    match outcome {
        // What was published may have line feeds between its values.
        Ok(result) => format!("{{\"result\":{}}}\n", result.replace(['\n', '\r'], "")),
        Err(error) => format!("{{\"error\":{}}}\n", error.to_json()),
    }
}
