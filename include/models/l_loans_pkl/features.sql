-- One row per loan that is issued in the window: what the application and the credit report say of the applicant.
-- What the lender decided (rate, grade, term, instalment) and what came later (payments) is not in the table.
SELECT loan_id,
       coalesce(annual_income_joint, annual_income) AS income,            -- of both, when two apply together
       coalesce(debt_to_income_joint, debt_to_income) AS debt_to_income,  -- per cent
       emp_length AS years_employed,                                      -- 10 stands for ten and more
       extract(year FROM issued_on)::integer - earliest_credit_line AS credit_years,
       homeownership,
       verified_income,
       application_type,
       loan_purpose,
       delinq_2y,
       inquiries_last_12m,
       months_since_last_credit_inquiry,
       total_credit_lines,
       open_credit_lines,
       total_credit_limit,
       total_credit_utilized,
       current_installment_accounts,
       accounts_opened_24m,
       total_debit_limit,
       num_open_cc_accounts,
       num_cc_carrying_balance,
       num_mort_accounts,
       public_record_bankrupt
FROM loans.loan
WHERE issued_on >= CAST(:window_start AS date)
  AND issued_on < CAST(:window_end AS date)
