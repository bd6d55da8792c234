CREATE OR REPLACE VIEW ponte.gate_rule WITH (security_barrier) AS
    SELECT g.verdict_id, g.model, g.version, r.position::integer - 1 AS position, r.rule->>'rule' AS rule,
           r.rule->>'got' AS got, r.rule->>'expected' AS expected, (r.rule->>'passed')::boolean AS passed,
           r.rule->'evidence' AS evidence, g.at,
           coalesce(r.rule->>'outcome', CASE WHEN (r.rule->>'passed')::boolean THEN 'passed' ELSE 'refused' END) AS outcome
    FROM ponte.gate_verdict g CROSS JOIN LATERAL jsonb_array_elements(g.rules) WITH ORDINALITY AS r (rule, position);

COMMENT ON VIEW ponte.gate_rule IS 'Every verdict of the gate, one row per rule.';
COMMENT ON COLUMN ponte.gate_rule.verdict_id IS 'Number of the verdict.';
COMMENT ON COLUMN ponte.gate_rule.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.gate_rule.version IS 'The version judged.';
COMMENT ON COLUMN ponte.gate_rule.position IS 'Place in the verdict, from 0.';
COMMENT ON COLUMN ponte.gate_rule.rule IS 'What was asked.';
COMMENT ON COLUMN ponte.gate_rule.got IS 'What was found.';
COMMENT ON COLUMN ponte.gate_rule.expected IS 'What was expected.';
COMMENT ON COLUMN ponte.gate_rule.passed IS 'Whether it lets the version pass.';
COMMENT ON COLUMN ponte.gate_rule.evidence IS 'Figures behind it; NULL in verdicts of before this column.';
COMMENT ON COLUMN ponte.gate_rule.at IS 'When the verdict was given.';
COMMENT ON COLUMN ponte.gate_rule.outcome IS 'passed, refused, undecided when it could not be asked, or warning when it lets the version pass and says what nobody should overlook.';
