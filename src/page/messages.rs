//! Every sentence of the page, in every language. A struct, so that a sentence missing in one language does not compile.
//!
//! `{name}` is filled in by [`fill`] here and by the same rule in the script, which gets the whole catalogue.

use serde::Serialize;

use super::Language;

#[derive(Serialize)]
pub(super) struct Messages {
    pub title_asleep: &'static str,
    pub title_waking: &'static str,
    pub title_ready: &'static str,
    pub title_failed: &'static str,
    pub title_misconfigured: &'static str,
    pub headline_asleep: &'static str,
    pub headline_waking: &'static str,
    pub headline_ready: &'static str,
    pub headline_failed: &'static str,
    pub headline_misconfigured: &'static str,
    pub detail_asleep: &'static str,
    pub detail_settling: &'static str,
    pub detail_stopping: &'static str,
    pub detail_ready: &'static str,
    pub detail_failed: &'static str,
    pub detail_misconfigured: &'static str,
    pub step_machine_stopping: &'static str,
    pub step_machine_starting: &'static str,
    pub step_booting: &'static str,
    pub step_health_checks: &'static str,
    pub step_health_checks_many: &'static str,
    pub step_switching: &'static str,
    pub step_ready: &'static str,
    #[serde(skip)]
    pub progress: &'static str,
    #[serde(skip)]
    pub steps: &'static str,
    #[serde(skip)]
    pub list: [&'static str; 4],
    pub is_done: &'static str,
    pub is_now: &'static str,
    pub is_later: &'static str,
    pub is_failed: &'static str,
    pub eta_unknown: &'static str,
    pub eta_overdue: &'static str,
    pub eta_moments: &'static str,
    pub eta_seconds: &'static str,
    pub eta_minute: &'static str,
    pub eta_minutes: &'static str,
    pub eta_ready: &'static str,
    pub elapsed: &'static str,
    pub took: &'static str,
    #[serde(skip)]
    pub why: &'static str,
    #[serde(skip)]
    pub next: &'static str,
    #[serde(skip)]
    pub help: &'static str,
    pub next_retry: &'static str,
    pub next_now: &'static str,
    pub next_checked: &'static str,
    pub next_misconfigured: &'static str,
    #[serde(skip)]
    pub help_default: &'static str,
    #[serde(skip)]
    pub advice_capacity: &'static str,
    #[serde(skip)]
    pub advice_permission: &'static str,
    #[serde(skip)]
    pub advice_gone: &'static str,
    #[serde(skip)]
    pub advice_health: &'static str,
    #[serde(skip)]
    pub advice_machine: &'static str,
    #[serde(skip)]
    pub advice_passes: &'static str,
    #[serde(skip)]
    pub advice_settings: &'static str,
    #[serde(skip)]
    pub wake: &'static str,
    #[serde(skip)]
    pub hint: &'static str,
    #[serde(skip)]
    pub no_script: &'static str,
    #[serde(skip)]
    pub reference: &'static str,
    #[serde(skip)]
    pub post_title: &'static str,
    #[serde(skip)]
    pub post_text: &'static str,
    pub post_ready: &'static str,
    #[serde(skip)]
    pub post_back: &'static str,
    #[serde(skip)]
    pub post_open: &'static str,
    #[serde(skip)]
    pub post_no_script: &'static str,
    #[serde(skip)]
    pub not_found_title: &'static str,
    #[serde(skip)]
    pub not_found_lead: &'static str,
    #[serde(skip)]
    pub not_found_help: &'static str,
    #[serde(skip)]
    pub forbidden_title: &'static str,
    #[serde(skip)]
    pub forbidden_lead: &'static str,
    #[serde(skip)]
    pub forbidden_help: &'static str,
    #[serde(skip)]
    pub bad_title: &'static str,
    #[serde(skip)]
    pub bad_lead: &'static str,
    #[serde(skip)]
    pub bad_value: &'static str,
    #[serde(skip)]
    pub bad_missing: &'static str,
    #[serde(skip)]
    pub bad_allowed: &'static str,
}

const ENGLISH: Messages = Messages {
    title_asleep: "Asleep – {rule}",
    title_waking: "Waking up – {rule}",
    title_ready: "✓ Ready – {rule}",
    title_failed: "! Trouble – {rule}",
    title_misconfigured: "! Trouble – {rule}",
    headline_asleep: "{rule} is asleep",
    headline_waking: "{rule} is waking up",
    headline_ready: "{rule} is ready",
    headline_failed: "{rule} could not start",
    headline_misconfigured: "{rule} is not set up correctly",
    detail_asleep: "Nothing is running at the moment.",
    detail_settling: "It was just about to go to sleep and is being brought back.",
    detail_stopping: "It was just going to sleep. It starts again as soon as the machine has stopped.",
    detail_ready: "It opens now.",
    detail_failed: "It has not become ready, but it is not given up.",
    detail_misconfigured: "Something in its settings has to be put right first.",
    step_machine_stopping: "The machine is still stopping. Then it starts again.",
    step_machine_starting: "The machine is starting.",
    step_booting: "The machine runs and its system is booting.",
    step_health_checks: "It has booted. Health checks make sure that it answers.",
    step_health_checks_many: "Health checks are running. So far {healthy} of {needed} machines are healthy.",
    step_switching: "It is healthy. Traffic is being switched over to it.",
    step_ready: "It is healthy. Traffic is being switched over to it.",
    progress: "Progress",
    steps: "Steps",
    list: [
        "Machine starts",
        "System boots",
        "Health checks pass",
        "Traffic is switched over",
    ],
    is_done: "(done)",
    is_now: "(now)",
    is_later: "(still to come)",
    is_failed: "(failed)",
    eta_unknown: "Time left not known yet",
    eta_overdue: "Taking longer than usual",
    eta_moments: "Only a few seconds left",
    eta_seconds: "About {seconds} seconds left",
    eta_minute: "About a minute left",
    eta_minutes: "About {minutes} minutes left",
    eta_ready: "Done",
    elapsed: "{time} so far",
    took: "It took {time}",
    why: "Why",
    next: "What happens next",
    help: "What can be done",
    next_retry: "The next try is in {time}.",
    next_now: "The next try is on its way.",
    next_checked: "It is checked again and again. This page opens it as soon as it answers.",
    next_misconfigured: "This page goes on by itself once that is done.",
    help_default: "Tell the people who run {rule}, with the reason above.",
    advice_capacity: "They can choose another instance type or Availability Zone, or ask AWS for a higher quota.",
    advice_permission: "They can give the function's role the permission that is named there.",
    advice_gone: "They can put back what is named there, or take the tags off the listener rule.",
    advice_health: "They can see whether the program starts with the machine, and answers the health check of its target group.",
    advice_machine: "They can look at the machine's state and its system log in the EC2 console.",
    advice_passes: "Mostly this passes by itself within minutes.",
    advice_settings: "For them, proxymanager status {rule} lists all that is wrong.",
    wake: "Wake it now",
    hint: "It sleeps while nobody uses it. This page opens it by itself; there is nothing to do.",
    no_script: "This page reloads itself from time to time.",
    reference: "Reference",
    post_title: "Your form was not sent.",
    post_text: "{rule} was asleep and could not receive it. This page says when it is ready; then go back and send it again.",
    post_ready: "{rule} was asleep and could not receive it. It is ready now: go back and send it again.",
    post_back: "Go back to the form",
    post_open: "Open this address without the form",
    post_no_script: "Without scripts this page does not change by itself. Open the address above to see how far things are.",
    not_found_title: "Nothing here by that name",
    not_found_lead: "There is no rule for this host, so there is nothing to wake.",
    not_found_help: "Please check the address. If it is right, the people who run the site have not set it up here yet.",
    forbidden_title: "Not from here",
    forbidden_lead: "Your network is not among those that may wake this site. Nothing was started.",
    forbidden_help: "If you should have access, try the company network or VPN, or ask the people who run the site.",
    bad_title: "Some settings are not right yet",
    bad_lead: "Until they are corrected, nothing is woken and nothing is put to sleep.",
    bad_value: "Is",
    bad_missing: "not set",
    bad_allowed: "Should be",
};

const GERMAN: Messages = Messages {
    title_asleep: "Schläft – {rule}",
    title_waking: "Wacht auf – {rule}",
    title_ready: "✓ Bereit – {rule}",
    title_failed: "! Störung – {rule}",
    title_misconfigured: "! Störung – {rule}",
    headline_asleep: "{rule} schläft",
    headline_waking: "{rule} wacht auf",
    headline_ready: "{rule} ist bereit",
    headline_failed: "{rule} konnte nicht starten",
    headline_misconfigured: "{rule} ist nicht richtig eingerichtet",
    detail_asleep: "Im Moment läuft nichts.",
    detail_settling: "Es wollte gerade einschlafen und wird zurückgeholt.",
    detail_stopping: "Es wollte gerade einschlafen. Sobald die Maschine angehalten hat, startet sie wieder.",
    detail_ready: "Es öffnet sich jetzt.",
    detail_failed: "Es ist noch nicht bereit, aber auch noch nicht aufgegeben.",
    detail_misconfigured: "In den Einstellungen muss zuerst etwas berichtigt werden.",
    step_machine_stopping: "Die Maschine hält noch an. Danach startet sie wieder.",
    step_machine_starting: "Die Maschine startet.",
    step_booting: "Die Maschine läuft, ihr System fährt hoch.",
    step_health_checks: "Das System läuft. Jetzt wird geprüft, ob es antwortet.",
    step_health_checks_many: "Jetzt wird geprüft, ob alles antwortet. Bisher sind {healthy} von {needed} Maschinen gesund.",
    step_switching: "Alles ist gesund. Der Verkehr wird umgeschaltet.",
    step_ready: "Alles ist gesund. Der Verkehr wird umgeschaltet.",
    progress: "Fortschritt",
    steps: "Schritte",
    list: [
        "Maschine startet",
        "System fährt hoch",
        "Prüfungen werden bestanden",
        "Verkehr wird umgeschaltet",
    ],
    is_done: "(erledigt)",
    is_now: "(jetzt)",
    is_later: "(kommt noch)",
    is_failed: "(fehlgeschlagen)",
    eta_unknown: "Restzeit noch nicht bekannt",
    eta_overdue: "Es dauert länger als sonst",
    eta_moments: "Nur noch wenige Sekunden",
    eta_seconds: "Noch etwa {seconds} Sekunden",
    eta_minute: "Noch etwa eine Minute",
    eta_minutes: "Noch etwa {minutes} Minuten",
    eta_ready: "Fertig",
    elapsed: "bisher {time}",
    took: "Es hat {time} gedauert",
    why: "Warum",
    next: "Wie es weitergeht",
    help: "Was man tun kann",
    next_retry: "Der nächste Versuch beginnt in {time}.",
    next_now: "Der nächste Versuch läuft.",
    next_checked: "Es wird immer wieder geprüft. Sobald es antwortet, wird es hier geöffnet.",
    next_misconfigured: "Sobald das geschehen ist, geht es hier von selbst weiter.",
    help_default: "Bitte denen Bescheid geben, die {rule} betreiben, und den Grund von oben nennen.",
    advice_capacity: "Sie können einen anderen Instanztyp oder eine andere Availability Zone wählen oder bei AWS ein höheres Kontingent beantragen.",
    advice_permission: "Sie können der Rolle der Funktion die dort genannte Berechtigung geben.",
    advice_gone: "Sie können das dort Genannte wiederherstellen oder die Tags von der Listener-Regel nehmen.",
    advice_health: "Sie können nachsehen, ob das Programm mit der Maschine startet und der Zustandsprüfung seiner Zielgruppe antwortet.",
    advice_machine: "Sie können in der EC2-Konsole Zustand und Systemprotokoll der Maschine ansehen.",
    advice_passes: "Meist gibt es sich in einigen Minuten von selbst.",
    advice_settings: "Ihnen zählt proxymanager status {rule} alles auf, was nicht stimmt.",
    wake: "Jetzt aufwecken",
    hint: "Es schläft, solange niemand es braucht, und öffnet sich hier von selbst. Es ist nichts zu tun.",
    no_script: "Diese Seite lädt sich von Zeit zu Zeit neu.",
    reference: "Kennung",
    post_title: "Das Formular wurde nicht gesendet.",
    post_text: "{rule} hat geschlafen und konnte es nicht annehmen. Sobald alles bereit ist, steht es hier; dann bitte zurückgehen und erneut senden.",
    post_ready: "{rule} hat geschlafen und konnte es nicht annehmen. Jetzt ist alles bereit: bitte zurückgehen und erneut senden.",
    post_back: "Zurück zum Formular",
    post_open: "Diese Adresse ohne das Formular öffnen",
    post_no_script: "Ohne Skripte ändert sich diese Seite nicht von selbst. Die Adresse oben zeigt, wie weit es ist.",
    not_found_title: "Unter diesem Namen gibt es hier nichts",
    not_found_lead: "Für diesen Host gibt es keine Regel, also auch nichts aufzuwecken.",
    not_found_help: "Bitte die Adresse prüfen. Stimmt sie, dann ist die Seite hier noch nicht eingerichtet.",
    forbidden_title: "Von hier aus nicht",
    forbidden_lead: "Dieses Netz darf die Seite nicht aufwecken. Es wurde nichts gestartet.",
    forbidden_help: "Vielleicht hilft das Firmennetz oder VPN; sonst bitte bei denen nachfragen, die die Seite betreiben.",
    bad_title: "Einige Einstellungen stimmen noch nicht",
    bad_lead: "Bis sie berichtigt sind, wird nichts aufgeweckt und nichts schlafen gelegt.",
    bad_value: "Ist",
    bad_missing: "nicht gesetzt",
    bad_allowed: "Soll sein",
};

impl Messages {
    pub(super) fn of(language: Language) -> &'static Messages {
        match language {
            Language::English => &ENGLISH,
            Language::German => &GERMAN,
        }
    }
}

/// One pass, so that a value that itself looks like `{name}` stays what it is.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, (name, after))) = rest
        .split_once('{')
        .and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
    {
        filled.push_str(before);
        let value = values.iter().find(|(key, _)| *key == name);
        debug_assert!(value.is_some(), "{text:?} wants {name:?}");
        filled.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(text: &str) -> Vec<&str> {
        let mut names: Vec<_> = text
            .split('{')
            .skip(1)
            .filter_map(|tail| Some(tail.split_once('}')?.0))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn languages_say_the_same_with_the_same_values() {
        let [english, german] = [&ENGLISH, &GERMAN].map(|messages| serde_json::to_value(messages).unwrap());
        for (key, text) in english.as_object().unwrap() {
            let (text, other) = (text.as_str().unwrap(), german[key].as_str().unwrap());
            assert!(!text.is_empty() && !other.is_empty(), "{key}");
            assert_eq!(placeholders(text), placeholders(other), "{key}");
        }
    }

    #[test]
    fn a_value_is_not_filled_again() {
        assert_eq!(fill("{a} of {b}", &[("a", "{b}"), ("b", "2")]), "{b} of 2");
        assert_eq!(fill("open { brace", &[]), "open { brace");
    }
}
