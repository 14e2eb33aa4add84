ALTER TABLE artifacts DROP COLUMN note;
ALTER TABLE stages DROP COLUMN failed_prompt_tokens, DROP COLUMN failed_completion_tokens;
