-- The schema `loans` of the example loan_amount. tables.py runs the named sections, and COPYs the file in between.

-- name: create --
CREATE SCHEMA IF NOT EXISTS loans;
-- No CASCADE: a view somebody built on the table stops the reload with a clear error instead of vanishing.
DROP TABLE IF EXISTS loans.loan, loans.load;

CREATE TABLE loans.loan (
    loan_id                          integer PRIMARY KEY,
    issued_on                        date NOT NULL,
    state                            text NOT NULL,
    emp_length                       integer,
    homeownership                    text NOT NULL,
    verified_income                  text NOT NULL,
    application_type                 text NOT NULL,
    annual_income                    float8 NOT NULL,
    annual_income_joint              float8,
    debt_to_income                   float8,
    debt_to_income_joint             float8,
    loan_purpose                     text NOT NULL,
    earliest_credit_line             integer NOT NULL,
    delinq_2y                        integer NOT NULL,
    inquiries_last_12m               integer NOT NULL,
    total_credit_lines               integer NOT NULL,
    open_credit_lines                integer NOT NULL,
    total_credit_limit               integer NOT NULL,
    total_credit_utilized            integer NOT NULL,
    current_installment_accounts     integer NOT NULL,
    accounts_opened_24m              integer NOT NULL,
    months_since_last_credit_inquiry integer,
    total_debit_limit                integer NOT NULL,
    num_open_cc_accounts             integer NOT NULL,
    num_cc_carrying_balance          integer NOT NULL,
    num_mort_accounts                integer NOT NULL,
    public_record_bankrupt           integer NOT NULL,
    loan_amount                      integer NOT NULL,
    known_at                         timestamptz NOT NULL
);
COMMENT ON COLUMN loans.loan.issued_on IS
    'Only the month is in the file: the rows of a month are spread evenly over its days, in file order.';
COMMENT ON COLUMN loans.loan.known_at IS 'When the amount was known: the end of the day, UTC, on which it was issued.';
CREATE TABLE loans.load (
    made_of   text NOT NULL,
    rows      bigint NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);

-- The columns of the file, under its names; rownames numbers its rows, issue_month is `Mar-2018`.
CREATE TEMPORARY TABLE staged (LIKE loans.loan) ON COMMIT DROP;
ALTER TABLE staged RENAME loan_id TO rownames;
ALTER TABLE staged DROP issued_on, DROP known_at, ADD issue_month text NOT NULL;

-- name: fill --
WITH numbered AS (
    SELECT *,
           to_date(issue_month, 'Mon-YYYY') AS month_start,
           row_number() OVER (PARTITION BY issue_month ORDER BY rownames) - 1 AS row_of_month,
           count(*) OVER (PARTITION BY issue_month) AS rows_of_month
    FROM staged
),
dated AS (
    SELECT *,
           month_start + (
               row_of_month * extract(day FROM month_start + interval '1 month' - interval '1 day')::integer
               / rows_of_month
           )::integer AS issued_on
    FROM numbered
)
INSERT INTO loans.loan
SELECT rownames, issued_on, state, emp_length, homeownership, verified_income, application_type, annual_income,
       annual_income_joint, debt_to_income, debt_to_income_joint, loan_purpose, earliest_credit_line, delinq_2y,
       inquiries_last_12m, total_credit_lines, open_credit_lines, total_credit_limit, total_credit_utilized,
       current_installment_accounts, accounts_opened_24m, months_since_last_credit_inquiry, total_debit_limit,
       num_open_cc_accounts, num_cc_carrying_balance, num_mort_accounts, public_record_bankrupt, loan_amount,
       (issued_on + 1)::timestamp AT TIME ZONE 'UTC'
FROM dated
ORDER BY issued_on, rownames;
CREATE INDEX ON loans.loan (issued_on);
ANALYZE loans.loan;
