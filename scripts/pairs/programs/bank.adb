--  Tagged types, exceptions, a generic instance, case tables, string operations and controlled types.
with Ada.Text_IO; use Ada.Text_IO;
with Ada.Containers.Ordered_Maps;
with Ada.Finalization;
with Ada.Strings.Unbounded; use Ada.Strings.Unbounded;

procedure Bank is
   Insufficient : exception;
   package Accounts is
      type Kind is (Deposit, Withdraw, Transfer, Interest, Fee, Close, Open, Audit);
      type Account is abstract tagged record
         Balance : Long_Integer := 0;
      end record;
      procedure Apply (A : in out Account; K : Kind; Amount : Long_Integer) is abstract;
      type Savings is new Account with record
         Rate : Long_Float := 0.02;
      end record;
      overriding procedure Apply (A : in out Savings; K : Kind; Amount : Long_Integer);
      type Checking is new Account with null record;
      overriding procedure Apply (A : in out Checking; K : Kind; Amount : Long_Integer);
      type Guard is new Ada.Finalization.Limited_Controlled with record
         Name : Unbounded_String;
      end record;
      overriding procedure Finalize (G : in out Guard);
   end Accounts;

   package body Accounts is
      overriding procedure Apply (A : in out Savings; K : Kind; Amount : Long_Integer) is
      begin
         case K is
            when Deposit => A.Balance := A.Balance + Amount;
            when Withdraw =>
               if A.Balance < Amount then
                  raise Insufficient with "savings" & Long_Integer'Image (A.Balance);
               end if;
               A.Balance := A.Balance - Amount;
            when Transfer => A.Balance := A.Balance - Amount - 1;
            when Interest => A.Balance := A.Balance + Long_Integer (Long_Float (A.Balance) * A.Rate);
            when Fee => A.Balance := A.Balance - 5;
            when Close => A.Balance := 0;
            when Open => A.Balance := Amount;
            when Audit => Put_Line ("audit" & Long_Integer'Image (A.Balance));
         end case;
      end Apply;

      overriding procedure Apply (A : in out Checking; K : Kind; Amount : Long_Integer) is
      begin
         Put_Line (Kind'Image (K));
         A.Balance := A.Balance + (if K in Deposit | Open then Amount else -Amount);
      end Apply;

      overriding procedure Finalize (G : in out Guard) is
      begin
         Put_Line ("closing " & To_String (G.Name));
      end Finalize;
   end Accounts;
   use Accounts;

   package Maps is new Ada.Containers.Ordered_Maps (Unbounded_String, Long_Integer);
   type Any is access all Account'Class;
   S : aliased Savings;
   C : aliased Checking;
   All_Of : constant array (1 .. 2) of Any := (S'Unchecked_Access, C'Unchecked_Access);
   Totals : Maps.Map;
   G : Guard;
begin
   G.Name := To_Unbounded_String ("bank");
   for A of All_Of loop
      for K in Kind loop
         begin
            A.Apply (K, 100);
         exception
            when Insufficient => Put_Line ("insufficient");
            when Constraint_Error | Program_Error => Put_Line ("broken");
         end;
      end loop;
      Totals.Include (To_Unbounded_String (Long_Integer'Image (A.Balance)), A.Balance);
   end loop;
   for T of Totals loop
      Put_Line (Long_Integer'Image (T));
   end loop;
end Bank;
