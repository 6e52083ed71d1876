//! Policies as a large team's might be, which everything that measures takes.

use std::fmt::Write;
use tidegate::classify::Catalogue;

/// The rules of a policy.
pub(crate) const RULES: usize = 50;

/// The policy with this number. Of the rules that speak of a request, only the last lets it pass.
pub(crate) fn text(number: usize, conditions: bool) -> String {
    let scopes: Vec<&str> = Catalogue::embedded().scopes().map(|entry| entry.scope.as_str()).collect();
    let mut text = String::from(
        "allow = [\"api:read\", \"image:read\"]\ndeny = [\"database:view_credentials\", \"app:delete\"]\n",
    );
    for index in 0..RULES {
        let is_last = index + 10 >= RULES;
        let effect = if index % 5 == 0 { "deny" } else { "allow" };
        let scope = match index % 10 {
            0 => "kubernetes:delete",
            1 => "droplet:create",
            2 => "droplet:delete",
            3 => "image:create",
            _ => scopes.get((number * RULES + index) % scopes.len()).copied().unwrap_or("image:read"),
        };
        let _ = writeln!(text, "[[rule]]\neffect = \"{effect}\"\nscopes = [\"{scope}\"]");
        if scope == "droplet:delete" {
            let droplet = if is_last { 3_164_444 } else { number };
            let _ = writeln!(text, "resources = {{ droplet = [\"{index}\", \"{droplet}\"] }}");
        }
        if conditions && scope == "droplet:create" {
            let region = if is_last { "nyc3".to_owned() } else { format!("ams{index}") };
            let condition =
                format!("request.body.size.startsWith(\"s-\") && request.body.region == \"{region}\"");
            let _ = writeln!(text, "when = '{condition}'");
        }
    }
    text
}
