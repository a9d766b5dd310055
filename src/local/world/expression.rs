//! DynamoDB's expressions, as far as a ledger needs them: conditions, key conditions, filters, and updates with SET,
//! REMOVE and ADD on top-level attributes. Anything else is refused by name rather than misread.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{Failure, Item};

/// `ExpressionAttributeNames` and `ExpressionAttributeValues` of a call.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub names: Map<String, Value>,
    pub values: Map<String, Value>,
}

/// Whether the condition holds for `item`; an absent item is an empty one.
pub fn holds(expression: &str, names: &Names, item: &Item) -> Result<bool, Failure> {
    let mut parser = Parser::new(expression, names, item)?;
    let truth = parser.or()?;
    parser.end()?;
    Ok(truth)
}

/// The partition key that a key condition asks for: the value its `pk =` is compared with.
pub fn partition(expression: &str, names: &Names) -> Result<String, Failure> {
    let tokens = tokens(expression)?;
    for window in tokens.windows(3) {
        let name = names
            .names
            .get(&window[0])
            .and_then(Value::as_str)
            .unwrap_or(&window[0]);
        if name == "pk" && window[1] == "=" {
            let value = names
                .values
                .get(&window[2])
                .and_then(|value| value.get("S"))
                .and_then(Value::as_str);
            return value
                .map(str::to_owned)
                .ok_or_else(|| invalid("the key condition's value of pk is not a string"));
        }
    }
    Err(invalid("Query condition missed key schema element: pk"))
}

/// `item` after the update expression.
pub fn update(expression: &str, names: &Names, item: &Item) -> Result<Item, Failure> {
    let mut parser = Parser::new(expression, names, item)?;
    let mut after = item.clone();
    while let Some(clause) = parser.take() {
        loop {
            let attribute = parser.name()?;
            match clause.to_ascii_uppercase().as_str() {
                "SET" => {
                    parser.expect("=")?;
                    let mut value = parser.operand()?.ok_or_else(|| missing(&attribute))?;
                    while let Some(sign) = parser.take_if(&["+", "-"]) {
                        let other = parser.operand()?.ok_or_else(|| missing(&attribute))?;
                        value = add(&value, &other, if sign == "-" { -1.0 } else { 1.0 })?;
                    }
                    after.insert(attribute, value);
                }
                "REMOVE" => {
                    after.shift_remove(&attribute);
                }
                "ADD" => {
                    let amount = parser.operand()?.ok_or_else(|| missing(&attribute))?;
                    let before = after.get(&attribute).cloned().unwrap_or_else(|| json!({ "N": "0" }));
                    after.insert(attribute, add(&before, &amount, 1.0)?);
                }
                other => {
                    return Err(invalid(&format!(
                        "the local cloud does not know the update clause {other}"
                    )));
                }
            }
            if parser.take_if(&[","]).is_none() {
                break;
            }
        }
    }
    Ok(after)
}

struct Parser<'e> {
    tokens: Vec<String>,
    next: usize,
    names: &'e Names,
    item: &'e Item,
}

impl<'e> Parser<'e> {
    fn new(expression: &str, names: &'e Names, item: &'e Item) -> Result<Self, Failure> {
        Ok(Self {
            tokens: tokens(expression)?,
            next: 0,
            names,
            item,
        })
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.next).map_or("", String::as_str)
    }

    fn take(&mut self) -> Option<String> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn take_if(&mut self, any: &[&str]) -> Option<String> {
        if any.iter().any(|one| one.eq_ignore_ascii_case(self.peek())) {
            self.take()
        } else {
            None
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), Failure> {
        let found = self.peek().to_owned();
        self.take_if(&[token])
            .map(|_| ())
            .ok_or_else(|| invalid(&format!("Syntax error; token: \"{found}\", expected \"{token}\"")))
    }

    fn end(&self) -> Result<(), Failure> {
        if self.next >= self.tokens.len() {
            return Ok(());
        }
        Err(invalid(&format!("Syntax error; token: \"{}\"", self.peek())))
    }

    fn or(&mut self) -> Result<bool, Failure> {
        let mut truth = self.and()?;
        while self.take_if(&["OR"]).is_some() {
            // Both sides are always read, for the second has to be parsed.
            truth |= self.and()?;
        }
        Ok(truth)
    }

    fn and(&mut self) -> Result<bool, Failure> {
        let mut truth = self.not()?;
        while self.take_if(&["AND"]).is_some() {
            truth &= self.not()?;
        }
        Ok(truth)
    }

    fn not(&mut self) -> Result<bool, Failure> {
        if self.take_if(&["NOT"]).is_some() {
            return Ok(!self.not()?);
        }
        if self.take_if(&["("]).is_some() {
            let truth = self.or()?;
            self.expect(")")?;
            return Ok(truth);
        }
        match self.peek() {
            "attribute_exists" | "attribute_not_exists" => {
                let wanted = self.take().as_deref() == Some("attribute_exists");
                self.expect("(")?;
                let name = self.name()?;
                self.expect(")")?;
                Ok(self.item.contains_key(&name) == wanted)
            }
            "begins_with" => {
                self.take();
                self.expect("(")?;
                let whole = self.operand()?;
                self.expect(",")?;
                let start = self.operand()?;
                self.expect(")")?;
                let text = |value: &Option<Value>| value.as_ref()?.get("S")?.as_str().map(str::to_owned);
                Ok(matches!((text(&whole), text(&start)), (Some(whole), Some(start)) if whole.starts_with(&start)))
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<bool, Failure> {
        let left = self.operand()?;
        if self.take_if(&["BETWEEN"]).is_some() {
            let low = self.operand()?;
            self.expect("AND")?;
            let high = self.operand()?;
            let above = matches!(order(&left, &low), Some(Ordering::Greater | Ordering::Equal));
            return Ok(above && matches!(order(&left, &high), Some(Ordering::Less | Ordering::Equal)));
        }
        let operator = self.take().unwrap_or_default();
        let right = self.operand()?;
        let ordering = order(&left, &right);
        Ok(match operator.as_str() {
            "=" => ordering == Some(Ordering::Equal) || (left.is_some() && left == right),
            "<>" => left != right && ordering != Some(Ordering::Equal),
            "<" => ordering == Some(Ordering::Less),
            "<=" => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            ">" => ordering == Some(Ordering::Greater),
            ">=" => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
            other => return Err(invalid(&format!("Syntax error; token: \"{other}\""))),
        })
    }

    /// An attribute's name, with `#` names replaced.
    fn name(&mut self) -> Result<String, Failure> {
        let token = self
            .take()
            .ok_or_else(|| invalid("Syntax error; the expression ends early"))?;
        if token.starts_with('#') {
            let name = self.names.names.get(&token).and_then(Value::as_str);
            let message = format!("An expression attribute name used in the document path is not defined: {token}");
            return name.map(str::to_owned).ok_or_else(|| invalid(&message));
        }
        if !token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(invalid(&format!("Syntax error; token: \"{token}\"")));
        }
        Ok(token)
    }

    /// A value: `:value`, an attribute, or `if_not_exists(attribute, value)`.
    fn operand(&mut self) -> Result<Option<Value>, Failure> {
        if self.take_if(&["if_not_exists"]).is_some() {
            self.expect("(")?;
            let name = self.name()?;
            self.expect(",")?;
            let other = self.operand()?;
            self.expect(")")?;
            return Ok(self.item.get(&name).cloned().or(other));
        }
        if self.peek().starts_with(':') {
            let token = self.take().unwrap_or_default();
            let message = format!("An expression attribute value used in expression is not defined: {token}");
            return self
                .names
                .values
                .get(&token)
                .cloned()
                .map(Some)
                .ok_or_else(|| invalid(&message));
        }
        let name = self.name()?;
        Ok(self.item.get(&name).cloned())
    }
}

fn tokens(expression: &str) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if word(first) || first == '#' || first == ':' {
            first.len_utf8()
                + rest[first.len_utf8()..]
                    .find(|c: char| !word(c))
                    .unwrap_or(rest.len() - first.len_utf8())
        } else if ["<>", "<=", ">="].iter().any(|two| rest.starts_with(two)) {
            2
        } else if "()=<>,+-".contains(first) {
            1
        } else {
            return Err(invalid(&format!(
                "the local cloud does not read '{first}' in \"{expression}\""
            )));
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// The order of two values of one type; `None` when they cannot be compared.
fn order(left: &Option<Value>, right: &Option<Value>) -> Option<Ordering> {
    let (left, right) = (left.as_ref()?, right.as_ref()?);
    let part = |value: &Value, kind: &str| value.get(kind).and_then(Value::as_str).map(str::to_owned);
    if let (Some(left), Some(right)) = (part(left, "N"), part(right, "N")) {
        // Versions and seconds are whole numbers, which floats would blur above 2^53.
        return match (left.parse::<i128>(), right.parse::<i128>()) {
            (Ok(left), Ok(right)) => Some(left.cmp(&right)),
            _ => left.parse::<f64>().ok()?.partial_cmp(&right.parse::<f64>().ok()?),
        };
    }
    let kind = ["S", "B"].into_iter().find(|kind| left.get(kind).is_some())?;
    Some(part(left, kind)?.cmp(&part(right, kind)?))
}

fn add(left: &Value, right: &Value, sign: f64) -> Result<Value, Failure> {
    let number = |value: &Value| value.get("N").and_then(Value::as_str).map(str::to_owned);
    let (Some(left), Some(right)) = (number(left), number(right)) else {
        return Err(invalid(
            "An operand in the update expression has an incorrect data type",
        ));
    };
    if let (Ok(left), Ok(right)) = (left.parse::<i128>(), right.parse::<i128>()) {
        return Ok(json!({ "N": (if sign < 0.0 { left - right } else { left + right }).to_string() }));
    }
    match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => Ok(json!({ "N": (left + sign * right).to_string() })),
        _ => Err(invalid("A number in the update expression is not a number")),
    }
}

fn missing(attribute: &str) -> Failure {
    invalid(&format!(
        "The provided expression refers to an attribute that does not exist in the item: {attribute}"
    ))
}

fn invalid(message: &str) -> Failure {
    Failure::refused("ValidationException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(values: Value) -> Names {
        let names = json!({ "#v": "version" });
        Names {
            names: names.as_object().unwrap().clone(),
            values: values.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn conditions() {
        let item = json!({ "pk": { "S": "a" }, "version": { "N": "7" }, "text": { "S": "hello" } });
        let item = item.as_object().unwrap();
        let names = names(json!({ ":v": { "N": "7" }, ":w": { "N": "8" }, ":h": { "S": "he" }, ":z": { "S": "z" } }));
        for (expression, expected) in [
            ("attribute_not_exists(pk) OR version = :v", true),
            ("attribute_not_exists(pk) OR version = :w", false),
            ("attribute_exists(pk) AND #v = :v", true),
            ("attribute_exists(other)", false),
            ("NOT attribute_exists(other)", true),
            ("(version = :w OR version = :v) AND text > :h", true),
            ("version <> :v", false),
            ("version <> :w", true),
            ("version < :w", true),
            ("version >= :w", false),
            ("other = :v", false),
            ("text = :v", false),
            ("begins_with(text, :h)", true),
            ("begins_with(text, :z)", false),
            ("text BETWEEN :h AND :z", true),
            ("text BETWEEN :z AND :z", false),
        ] {
            assert_eq!(holds(expression, &names, item), Ok(expected), "{expression}");
        }
        for bad in [
            "",
            "version =",
            "version = :unknown",
            "a.b = :v",
            "version = :v extra",
            "size(pk) = :v",
        ] {
            assert_eq!(
                holds(bad, &names, item).unwrap_err().code,
                "ValidationException",
                "{bad}"
            );
        }
        assert_eq!(
            holds("attribute_not_exists(pk) OR version = :w", &names, &Item::new()),
            Ok(true)
        );
    }

    #[test]
    fn updates() {
        let item = json!({ "n": { "N": "9007199254740993" }, "gone": { "S": "x" } });
        let names = names(json!({ ":one": { "N": "1" }, ":t": { "S": "t" } }));
        let expression = "SET n = n + :one, #v = if_not_exists(#v, :one), t = :t REMOVE gone ADD count :one";
        let after = update(expression, &names, item.as_object().unwrap()).unwrap();
        let expected = json!({
            "n": { "N": "9007199254740994" }, "version": { "N": "1" }, "t": { "S": "t" }, "count": { "N": "1" },
        });
        assert_eq!(Value::Object(after), expected);
        assert_eq!(
            update("DELETE n :one", &names, &Item::new()).unwrap_err().code,
            "ValidationException"
        );
    }

    #[test]
    fn key_conditions_name_their_partition() {
        let names = names(json!({ ":p": { "S": "rule" } }));
        assert_eq!(partition("pk = :p AND sk > :s", &names).as_deref(), Ok("rule"));
        assert!(partition("sk = :p", &names).is_err());
    }
}
